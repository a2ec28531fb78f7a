"""What is listed and what is removed: never a thing that a run needs, whatever its version and however far it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from stillroom import disk
from stillroom.cli.main import run as command
from stillroom.files import fingerprint
from stillroom.study import needs as needs_module
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.inventory import FoundArtifact, prune, take_inventory
from stillroom.study.needs import NEEDED, Needs
from stillroom.study.stage_jobs import StageEnd, StageJob, StageJobs
from stillroom.types import UserError


def made(root: Path, run: str | None, *names: str, needs: Needs | None = None) -> list[str]:
    """Artifacts that the run folder ``run`` asks for, made or found; its places are written down as a study does."""
    artifacts = root / "artifacts"
    folder = root / str(run)
    store = ArtifactStore(artifacts, needs or (None if run is None else Needs.of_run(artifacts, folder)))
    found = []
    for name in names:
        kind, _, content = name.partition(":")
        work = store.build(
            kind, {"kind": kind, "content": content}, lambda work: (work / "data").write_text("x" * 100) and None
        )
        found.append(work.path.name)
    if run is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text("kind: study\n")
        models = {name: f"../artifacts/{name}/model" for name in found}
        (folder / "places.json").write_text(json.dumps({"models": models, "evaluations": {}}))
    return found


def finish(folder: Path) -> None:
    """As a study leaves its folder."""
    places = json.loads((folder / "places.json").read_text())
    evaluations = {"spt": "../artifacts/evaluation-0"}
    (folder / "study.json").write_text(json.dumps({"places": places | {"evaluations": evaluations}, "labels": None}))
    (folder / "places.json").unlink()


def forget_marks(root: Path) -> None:
    shutil.rmtree(root / "artifacts" / NEEDED)


def left(root: Path) -> set[str]:
    return {one.name for one in (root / "artifacts").iterdir() if one.name != NEEDED}


def pruned(root: Path) -> set[str]:
    return {one.name for one in prune(take_inventory(root))}


def test_what_only_a_removed_run_needed_goes_and_what_others_share_stays(tmp_path):
    shared, old = made(tmp_path, "first", "corpus:a", "model:a")
    finish(tmp_path / "first")
    made(tmp_path, "second", "corpus:a", "model:b")
    assert pruned(tmp_path) == set()
    shutil.rmtree(tmp_path / "first")
    assert [one.name for one in take_inventory(tmp_path).artifacts if one.is_needless] == [old]
    assert pruned(tmp_path) == {old} and shared in left(tmp_path) and old not in left(tmp_path)
    shutil.rmtree(tmp_path / "second")
    assert len(pruned(tmp_path)) == 2 and left(tmp_path) == set()
    assert not list((tmp_path / "artifacts" / NEEDED).iterdir())  # marks go with the last that they name


@pytest.mark.parametrize("name", ["run", "my run", "a [b]: c"])
def test_runs_are_found_in_folders_of_every_name(name, tmp_path):
    made(tmp_path, name, "corpus:a")
    assert [run.what for run in take_inventory(tmp_path).runs] == ["under way"]
    shutil.rmtree(tmp_path / name)
    assert len(pruned(tmp_path)) == 1


def test_a_run_elsewhere_that_uses_these_artifacts_keeps_them(tmp_path):
    artifacts = tmp_path / "runs/artifacts"
    far = tmp_path / "far/away/run"
    made(tmp_path / "runs", None, "corpus:a", needs=Needs.of_run(artifacts, far))
    far.mkdir(parents=True)
    assert pruned(tmp_path / "runs") == set()
    shutil.rmtree(tmp_path / "far")  # perhaps a disk that is not there today
    assert pruned(tmp_path / "runs") == set()
    far.parent.mkdir(parents=True)
    assert len(pruned(tmp_path / "runs")) == 1


def test_a_run_of_an_earlier_version_keeps_what_its_record_names(tmp_path):
    """It has no marks; a newer run that used the same is gone."""
    (model,) = made(tmp_path, "old", "model:a")
    finish(tmp_path / "old")
    forget_marks(tmp_path)
    made(tmp_path, "new", "model:a", "model:b")
    shutil.rmtree(tmp_path / "new")
    assert len(pruned(tmp_path)) == 1 and model in left(tmp_path)


def test_what_nobody_marked_stays(tmp_path):
    made(tmp_path, None, "model:a", "corpus:a")
    (found,) = {one.is_known for one in take_inventory(tmp_path).artifacts}
    assert not found and pruned(tmp_path) == set()


@pytest.mark.parametrize("state", ["under way", "without places", "labels not named"])
def test_where_a_run_does_not_say_all_that_it_needs_nothing_is_removed(state, tmp_path):
    made(tmp_path, "old", "model:a")
    finish(tmp_path / "old")
    record = json.loads((tmp_path / "old/study.json").read_text())
    if state == "under way":
        (tmp_path / "old/study.json").unlink()
    elif state == "without places":
        (tmp_path / "old/study.json").write_text(json.dumps(record | {"places": None}))
    else:
        (tmp_path / "old/study.json").write_text(json.dumps(record | {"labels": {"codec": "sampled"}}))
    forget_marks(tmp_path)
    made(tmp_path, "gone", "model:b")
    shutil.rmtree(tmp_path / "gone")
    before = left(tmp_path)
    with pytest.raises(
        UserError, match=r"old: is a run of an earlier version, or was moved while .* does not say all that it needs"
    ):
        prune(take_inventory(tmp_path))
    assert left(tmp_path) == before


def test_a_recipe_that_names_an_artifact_of_another_run_keeps_it(tmp_path):
    teacher, other = made(tmp_path, "first", "model:a", "model:b")
    made(tmp_path, "second", "model:c")
    config = f"kind: study\nteacher: {{model: {{path: ../artifacts/{teacher}/model}}}}\n"
    (tmp_path / "second/config.yaml").write_text(config)
    shutil.rmtree(tmp_path / "first")
    assert pruned(tmp_path) == {other} and teacher in left(tmp_path)


def test_labels_outside_keep_the_corpus_that_they_are_of(tmp_path):
    corpus, model = made(tmp_path, "run", "corpus:a", "model:a")
    (tmp_path / "labels").mkdir()
    manifest = {"identity": {"corpus": corpus.partition("-")[2]}}
    (tmp_path / "labels/manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(tmp_path / "run")
    assert pruned(tmp_path) == {model} and corpus in left(tmp_path)


def test_a_model_that_was_asked_for_by_itself_stays_with_what_it_is_made_of(tmp_path):
    artifacts = tmp_path / "artifacts"
    needs = Needs.of_training(artifacts, "spt", "0" * 16)
    corpus, model = made(tmp_path, None, "corpus:a", "model:a", needs=needs)
    assert pruned(tmp_path) == set()  # under way
    needs.settle(artifacts / model)
    assert pruned(tmp_path) == set()
    shutil.rmtree(artifacts / model)
    assert pruned(tmp_path) == {corpus}


def test_the_users_own_things_are_never_touched(tmp_path):
    made(tmp_path, "run", "model:a")
    shutil.rmtree(tmp_path / "run")
    own = tmp_path / "artifacts" / f"model-{fingerprint('mine')}"
    own.mkdir()
    for place in (own / "weights", tmp_path / "artifacts/notes.txt", tmp_path / "thesis/chapter.tex"):
        place.parent.mkdir(exist_ok=True)
        place.write_text("mine")
    (tmp_path / "artifacts/data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "artifacts" / f"corpus-{fingerprint('link')}").symlink_to(tmp_path / "elsewhere")
    assert len(pruned(tmp_path)) == 1
    assert {own.name, "notes.txt", "data", f"corpus-{fingerprint('link')}"} <= left(tmp_path)
    assert (tmp_path / "thesis/chapter.tex").read_text() == "mine" and (tmp_path / "elsewhere").is_dir()


def test_what_is_being_made_or_was_asked_for_meanwhile_stays(tmp_path):
    (model,) = made(tmp_path, "run", "model:a")
    shutil.rmtree(tmp_path / "run")
    found = take_inventory(tmp_path)
    with disk.held(tmp_path / "artifacts" / f".{model}.lock"):
        assert prune(found) == []
    made(tmp_path, "next", "model:a")
    assert prune(found) == [] and (tmp_path / "artifacts" / model / "data").is_file()


def test_unfinished_work_of_a_removed_run_goes_and_that_of_a_run_under_way_stays(tmp_path):
    for run, content in (("gone", "a"), ("here", "b")):
        made(tmp_path, run)
        needs = Needs.of_run(tmp_path / "artifacts", tmp_path / run)
        name = f"model-{fingerprint([content])}"
        needs.mark(name)
        (tmp_path / "artifacts" / f".{name}.unfinished/checkpoints").mkdir(parents=True)
    shutil.rmtree(tmp_path / "gone")
    assert pruned(tmp_path) == {f"model-{fingerprint(['a'])}"}
    assert len(left(tmp_path)) == 1


def test_what_is_known_of_the_jobs_of_an_artifact_goes_with_it(tmp_path):
    (kept,) = made(tmp_path, "first", "corpus:a")
    (gone,) = made(tmp_path, "second", "model:a")
    jobs = StageJobs.of(tmp_path / "artifacts")
    for name in (kept, gone):
        jobs.note(name, StageJob(on="slurm", name="7", log="a log"))
        jobs.end(name, StageEnd())
    shutil.rmtree(tmp_path / "second")
    assert pruned(tmp_path) == {gone}
    assert {one.name for one in jobs.root.iterdir()} == {f"{kept}.json", f"{kept}.ended.json"}


def test_the_command_says_what_it_removes(tmp_path, capsys):
    made(tmp_path, "run", "model:a")
    shutil.rmtree(tmp_path / "run")
    words = {}
    for arguments in (["--prune", "--dry-run"], ["--prune"], []):
        with pytest.raises(SystemExit) as done:
            command(["ls", str(tmp_path), *arguments])
        assert done.value.code == 0
        words[len(arguments)] = capsys.readouterr().out
    assert "1 artifacts would be removed; nothing was" in words[2] and f"{tmp_path}/artifacts/model-" in words[2]
    assert "1 artifacts removed" in words[1] and "0 B in all" in words[0]
    with pytest.raises(SystemExit) as done:
        command(["ls", str(tmp_path / "nowhere")])
    assert done.value.code == 2 and "no such file or folder; expected a folder of runs" in capsys.readouterr().err


def test_an_artifact_says_by_whom_it_is_needed(tmp_path):
    made(tmp_path, "run", "model:a")
    made(tmp_path, "other", "model:a")
    (one,) = take_inventory(tmp_path).artifacts
    assert isinstance(one, FoundArtifact) and one.needed_by == ("other", "run") and one.bytes > 100


@pytest.mark.parametrize("linked", ["before", "after"])
def test_artifacts_behind_a_link_are_those_of_the_same_runs(linked, tmp_path):
    big, runs = tmp_path / "big", tmp_path / "runs"
    runs.mkdir()
    if linked == "before":
        (big / "artifacts").mkdir(parents=True)
        (runs / "artifacts").symlink_to(big / "artifacts")
    kept = made(runs, "run", "model:a")
    (removed,) = made(runs, "gone", "model:b")
    for run in ("run", "gone"):
        finish(runs / run)
    if linked == "after":
        big.mkdir()
        shutil.move(runs / "artifacts", big / "artifacts")
        (runs / "artifacts").symlink_to(big / "artifacts")
    assert pruned(runs) == set()  # links are not followed
    assert pruned(big) == set()  # the runs are not below it, and are there
    shutil.rmtree(runs / "gone")
    assert pruned(big) == {removed}
    assert kept == [one.name for one in (big / "artifacts").iterdir() if one.name != NEEDED]


def test_who_cannot_be_seen_from_here_is_not_gone(tmp_path, monkeypatch):
    made(tmp_path, "run", "model:a")
    shutil.rmtree(tmp_path / "run")
    with monkeypatch.context() as other:  # the folder of a run of another machine, or of a disk that is not there now
        other.setattr(needs_module, "platform", SimpleNamespace(node=lambda: "another"))
        assert pruned(tmp_path) == set()
    user = next((tmp_path / "artifacts" / NEEDED).glob("*/user.json"))
    said = json.loads(user.read_text())
    for change in ({"disk": said["disk"] + "0"}, {"disk": None}):
        user.write_text(json.dumps(said | change))
        assert pruned(tmp_path) == set()
    user.write_text(json.dumps({"name": said["name"], "folder": said["folder"]}))  # which says less
    assert pruned(tmp_path) == set()
    user.write_text(json.dumps(said))
    assert len(pruned(tmp_path)) == 1


@pytest.mark.parametrize("state", ["renamed", "half run again"])
def test_a_run_that_tells_a_part_of_what_it_needs_is_not_believed(state, tmp_path):
    made(tmp_path, "run", "model:a", "evaluation:a")
    if state == "renamed":
        (tmp_path / "run").rename(tmp_path / "other")
    else:
        finish(tmp_path / "run")
        record = json.loads((tmp_path / "run/study.json").read_text())
        (tmp_path / "run/study.json").write_text(json.dumps(record | {"places": None}))
        forget_marks(tmp_path)
        made(tmp_path, "gone", "model:a", "evaluation:a")
        shutil.rmtree(tmp_path / "gone")
        Needs.of_run(tmp_path / "artifacts", tmp_path / "run").mark("corpus-0000000000000000")
    before = left(tmp_path)
    with pytest.raises(UserError, match="does not say all that it needs"):
        prune(take_inventory(tmp_path))
    assert left(tmp_path) == before


def test_a_part_that_is_named_by_its_place_keeps_its_artifact(tmp_path):
    (labels,) = made(tmp_path, "first", "labels:a")
    (tmp_path / "second").mkdir()
    artifacts = tmp_path / "artifacts"
    ArtifactStore(artifacts, Needs.of_run(artifacts, tmp_path / "second")).mark_owner(artifacts / labels / "labels")
    shutil.rmtree(tmp_path / "first")
    assert pruned(tmp_path) == set() and labels in left(tmp_path)


def test_marks_of_a_run_that_began_anew_stay(tmp_path):
    made(tmp_path, "run", "model:a")
    shutil.rmtree(tmp_path / "run")
    found = take_inventory(tmp_path)
    made(tmp_path, "run", "model:b")
    (tmp_path / "artifacts" / NEEDED / ".DS_Store").write_text("of a file browser")
    prune(found)
    assert [one for one in (tmp_path / "artifacts" / NEEDED).glob("run-*/model-*")]
