"""What names a part of a run: every form, in paths of every kind, and what is said of a part that is not there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from make_run import make_run
from stillroom.places import find_part, find_parts, is_run
from stillroom.types import UserError

RUNS = ["run", "my run", "runs [v2]/[exp]", "a:b", "ümlaut:x", "run:dpt90"]


def artifact(root: Path, name: str, mark: str) -> Path:
    """A part as a stage leaves it: just the file that tells its kind."""
    folder = root / "artifacts" / name
    folder.mkdir(parents=True)
    (folder / mark).write_text("{}")
    return folder


def made_run(root: Path, name: str = "run", **places: object) -> Path:
    """A made-up finished run whose record says where its parts lie, beside it."""
    run = make_run(root / name)
    up = "../" * len(Path(name).parts)
    for kind, mark in (("corpus", "corpus.json"), ("labels", "manifest.json")):
        artifact(root, f"{kind}-1/{kind}", mark)
    for number, model in enumerate(("teacher", "spt", "dpt90")):
        artifact(root, f"model-{number}/model", "config.json")
        (root / f"artifacts/model-{number}/config.yaml").write_text(f"kind: run\nname: {model}\n")
    for step in (2, 10):
        artifact(root, f"model-2/steps/step-{step}", "config.json")
    study = json.loads((run / "study.json").read_text())
    study["places"] = {
        "corpus": f"{up}artifacts/corpus-1/corpus",
        "labels": f"{up}artifacts/labels-1/labels",
        "models": {name: f"{up}artifacts/model-{n}/model" for n, name in enumerate(("teacher", "spt", "dpt90"))},
        **places,
    }
    (run / "study.json").write_text(json.dumps(study))
    return run


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize(
    ("wanted", "part", "folder"),
    [
        ("corpus", "", "corpus-1/corpus"),
        ("corpus", ":corpus", "corpus-1/corpus"),
        ("labels", "", "labels-1/labels"),
        ("labels", ":labels", "labels-1/labels"),
        ("model", ":dpt90", "model-2/model"),
        ("model", ":teacher", "model-0/model"),
        ("model", ":dpt90@10", "model-2/steps/step-10"),
        ("training", ":dpt90", "model-2"),
        ("part", ":corpus", "corpus-1/corpus"),
        ("part", ":spt", "model-1/model"),
    ],
)
def test_a_part_of_a_run_is_found_by_its_name(name, wanted, part, folder, tmp_path, monkeypatch):
    run = made_run(tmp_path, name)
    expected = (tmp_path / "artifacts" / folder).resolve()
    monkeypatch.chdir(tmp_path)
    for given in (f"{run}{part}", f"{name}{part}", f"./{name}{part}", Path(f"{name}{part}")):
        assert Path(find_part(wanted, given).path).resolve() == expected


def test_a_run_alone_stands_for_all_of_its_models_and_a_teacher_where_one_is_wanted(tmp_path):
    run = made_run(tmp_path)
    assert [part.name for part in find_parts("model", run)] == ["teacher", "spt", "dpt90"]
    assert [str(part) for part in find_parts("model", f"{run}:dpt90@all")] == [f"{run}:dpt90@2", f"{run}:dpt90@10"]
    assert find_part("model", run, "teacher").name == "teacher"
    with pytest.raises(UserError, match="holds 3 of the kind model; name one as RUN:NAME, of teacher, spt, dpt90"):
        find_part("model", run)


@pytest.mark.parametrize(
    ("wanted", "part", "words"),
    [
        ("model", "dtp90", "no model 'dtp90'; did you mean dpt90? It holds corpus, labels, teacher, spt, dpt90."),
        ("model", "", "has no model ''; it holds corpus, labels, teacher, spt, dpt90."),
        ("model", "corpus", "is the run's corpus, expected its model: teacher, spt, dpt90."),
        ("corpus", "spt", "is the run's model, expected its corpus: corpus."),
        ("labels", "spt", "is the run's model, expected its labels: labels."),
        ("model", "dpt90@3", "keeps no checkpoint of that step, it keeps 2, 10;"),
        ("model", "spt@all", "keeps no checkpoint of that step, it keeps none;"),
        ("model", "dpt90@last", "keeps no checkpoint of that step, it keeps 2, 10;"),
        ("part", "labls", "no part 'labls'; did you mean labels?"),
    ],
)
def test_what_a_run_does_not_hold_is_told_with_what_it_holds(wanted, part, words, tmp_path):
    run = made_run(tmp_path)
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        find_part(wanted, f"{run}:{part}")
    assert "\n" not in str(caught.value) and str(run) in str(caught.value)


def test_a_misspelt_run_is_told_with_its_nearest(tmp_path):
    made_run(tmp_path, "quickstart-1a2b")
    with pytest.raises(UserError, match=r"no run folder .*quikstart-1a2b; did you mean .*quickstart-1a2b\?"):
        find_part("model", f"{tmp_path}/quikstart-1a2b:spt")
    (tmp_path / "plain").mkdir()
    with pytest.raises(UserError, match="plain is no run folder, so it has no part 'spt'"):
        find_part("model", f"{tmp_path}/plain:spt")


@pytest.mark.parametrize(
    "given", ["org/model", "s3://bucket/labels", "http://host:80/labels", 'world:bigram:{"a": 1}', "m.gguf", "a:b/c"]
)
def test_what_names_no_run_stands_for_itself(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_part("model", given).path == given


def test_a_folder_with_a_colon_comes_before_a_part(tmp_path):
    run = made_run(tmp_path)
    there = artifact(tmp_path, "../run:spt", "config.json")
    assert Path(find_part("model", f"{run}:spt").path).resolve() == there.resolve()


def test_a_part_that_is_gone_is_named_with_what_heals_it(tmp_path):
    run = made_run(tmp_path)
    (tmp_path / "artifacts/model-1").rename(tmp_path / "artifacts/elsewhere")
    with pytest.raises(UserError, match=r"lies at .*model-1/model, which is not there .* again, which makes"):
        find_part("model", f"{run}:spt")
    copy = run / "models/spt/model"  # as a copy with what its links led to
    copy.mkdir()
    (copy / "config.json").write_text("{}")
    assert find_part("model", f"{run}:spt").path == str(copy)


def test_a_run_is_found_through_a_link_to_it(tmp_path):
    run = made_run(tmp_path)
    (tmp_path / "far/away").mkdir(parents=True)
    link = tmp_path / "far/away/link"
    link.symlink_to(run)
    assert Path(find_part("corpus", link).path).resolve() == (tmp_path / "artifacts/corpus-1/corpus").resolve()


def test_a_training_and_a_folder_of_parts_stand_for_what_they_hold(tmp_path):
    made_run(tmp_path)
    training = tmp_path / "artifacts/model-2"
    (training / "identity.json").write_text(json.dumps({"corpus": "1", "labels": "1"}))
    assert find_part("model", training).path == str(training / "model")
    assert find_part("corpus", training).path == str(tmp_path / "artifacts/corpus-1/corpus")
    assert find_part("labels", training).path == str(tmp_path / "artifacts/labels-1/labels")
    assert find_part("corpus", tmp_path / "artifacts/corpus-1").path.endswith("corpus-1/corpus")
    under_way = tmp_path / "artifacts/.model-2.unfinished"
    training.rename(under_way)
    assert find_part("training", f"{tmp_path / 'run'}:dpt90").path == str(under_way)
    assert find_part("training", under_way).path == str(under_way)


@pytest.mark.parametrize(
    ("file", "what"),
    [("sandbox.json", "a run of a sandbox"), ("ranking.json", "a ranking of teachers"), ("study.json", "does not say")],
)
def test_a_run_without_such_parts_says_what_it_is(file, what, tmp_path):
    if file == "study.json":
        make_run(tmp_path / "old")
    else:
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / file).write_text("{}")
    assert is_run(tmp_path / "old")
    for wanted in ("model", "corpus", "labels"):
        with pytest.raises(UserError, match=f"{what}.* holds no {wanted}"):
            find_part(wanted, tmp_path / "old")
