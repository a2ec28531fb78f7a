"""A study or training on a corpus that is there, grows, or lies behind an address: not one that it builds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stillroom.cli.ask import study_config
from stillroom.config import StudyConfig, parse, to_yaml
from stillroom.corpora import build_corpus, open_corpus
from stillroom.corpora.corpus_files import growing_folder
from stillroom.study.evaluations import evaluate_models
from stillroom.study.explain import explain_study
from stillroom.study.pipeline import run_single, run_study
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe
from stillroom.types import UserError

TOKENS = 4096


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def base(micro_recipe: Path, **changes: object) -> StudyConfig:
    values = resolve_recipe(str(micro_recipe)).model_dump()
    values["arms"] = {"spt": {}, "dpt90": {"alpha": 0.9}}
    values["training"] |= {"validate_every": 0}
    values["evaluation"] |= {"suites": ["lm"], "contamination_ngram": 0}
    return parse(StudyConfig, values | changes, "small")


@pytest.fixture(scope="module")
def built(tmp_path_factory, micro_recipe):
    """The corpus of the study, made by itself, and a run of the study on it."""
    root = tmp_path_factory.mktemp("given")
    own = base(micro_recipe)
    build_corpus(own.corpus, root / "corpus")
    asked = base(micro_recipe, corpus={"path": str(root / "corpus")})
    return root, own, asked, run_study(asked, root / "given", None, StageDisplay())


def test_it_is_the_run_on_the_corpus_that_is_built(built):
    root, own, _, given = built
    ours = run_study(own, root / "own", root / "others", StageDisplay())
    for name in ("teacher", "spt", "dpt90"):
        one, other = (run / f"models/{name}/model/model.safetensors" for run in (ours, given))
        assert one.read_bytes() == other.read_bytes()
    assert not list((root / "artifacts").glob("corpus-*"))
    assert (given / "corpus").resolve() == (root / "corpus").resolve()


def test_what_is_not_said_is_read_from_it(built):
    root, own, asked, _ = built
    for name in ("vocab_size", "sequence_length", "isolate_documents", "shuffle_tokens"):
        assert getattr(asked.corpus, name) == getattr(own.corpus, name)
    corpus = open_corpus(root / "corpus")
    assert asked.corpus.train_tokens == corpus.train.num_tokens
    assert list(asked.corpus.sources) == corpus.source_names


def test_the_run_says_all_of_it_and_runs_again_as_it_is(built, tmp_path):
    root, _, asked, given = built
    again = resolve_recipe(str(given))
    assert again == asked
    assert all(one.is_there for one in explain_study(asked, given, None))
    (tmp_path / "config.yaml").write_text(to_yaml(asked, "study").replace(str(root / "corpus"), str(tmp_path / "gone")))
    assert isinstance(resolve_recipe(str(tmp_path / "config.yaml")), StudyConfig)  # a page needs no corpus


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"sequence_length": 32}, "sequence_length"),
        ({"vocab_size": 299}, "vocab_size"),
        ({"isolate_documents": False}, "isolate_documents"),
        ({"train_tokens": 10**9}, "train_tokens"),
        ({"heldout_tokens": 64}, "heldout_tokens"),
        ({"sources": {"facts": {"kind": "facts"}}}, "sources"),
    ],
)
def test_what_is_said_beside_it_must_agree(built, micro_recipe, tmp_path, said, words):
    root = built[0]
    with pytest.raises(UserError, match=f"corpus.{words}: is .*, that of the corpus in"):
        run_study(
            base(micro_recipe, corpus={"path": str(root / "corpus"), **said}), tmp_path / "run", None, StageDisplay()
        )
    assert not (tmp_path / "artifacts").exists() or not list((tmp_path / "artifacts").glob("model-*"))


def test_fewer_of_its_tokens_may_be_used(built, micro_recipe):
    root = built[0]
    fewer = base(micro_recipe, corpus={"path": str(root / "corpus"), "train_tokens": TOKENS})
    assert fewer.corpus.train_tokens == TOKENS


@pytest.mark.parametrize("place", ["nowhere", "empty", "model"])
def test_what_is_no_corpus_is_refused(built, micro_recipe, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("model").symlink_to(built[3] / "models/spt/model")
    with pytest.raises(UserError, match="corpus"):
        base(micro_recipe, corpus={"path": place})


def test_the_command_line_takes_a_corpus_or_a_run(built, micro_recipe):
    root, _, asked, given = built
    for place in (root / "corpus", given, f"{given}:corpus"):
        config = study_config(str(micro_recipe), ["evaluation.suites=[lm]"], str(place))
        assert config.corpus.model_dump(exclude={"path", "tokenizer"}) == asked.corpus.model_dump(
            exclude={"path", "tokenizer"}
        )


def test_one_student_is_trained_on_it(built, tmp_path):
    _, _, asked, given = built
    folder = run_single(asked, "spt", tmp_path, StageDisplay())
    one, other = (place / "model/model.safetensors" for place in (folder, given / "models/spt"))
    assert one.read_bytes() == other.read_bytes()


def test_waiting_is_for_a_corpus_that_is_named(micro_recipe, tmp_path):
    with pytest.raises(UserError, match="--wait-for 5000: the recipe builds its corpus itself"):
        run_study(base(micro_recipe), tmp_path / "run", None, StageDisplay(), wait_for=5000)


@pytest.mark.parametrize("manifest", ["growing.json", "corpus.json"])
def test_a_corpus_is_known_from_its_first_manifest_to_its_name(built, micro_recipe, tmp_path, manifest):
    grown = growing_folder(tmp_path / "later")
    shutil.copytree(built[0] / "corpus", grown)
    (grown / "corpus.json").rename(grown / manifest)  # while it is sealed the whole one stands there already
    config = base(micro_recipe, corpus={"path": str(tmp_path / "later")})
    assert config.corpus.model_dump(exclude={"path", "tokenizer"}) == built[2].corpus.model_dump(
        exclude={"path", "tokenizer"}
    )


@pytest.mark.slow
def test_training_begins_while_the_corpus_grows(built, micro_recipe, tmp_path):
    _, own, _, _ = built
    config = own.corpus.model_copy(update={"train_tokens": 2_000_000, "shuffle_tokens": 16_384})
    (tmp_path / "config.json").write_text(config.model_dump_json())
    code = (
        "import sys, json; from pathlib import Path; from stillroom.corpora import build_corpus\n"
        "from stillroom.config import CorpusConfig\n"
        f"build_corpus(CorpusConfig.model_validate_json(Path({str(tmp_path / 'config.json')!r}).read_text()), "
        f"Path({str(tmp_path / 'growing')!r}))"
    )
    builder = subprocess.Popen([sys.executable, "-c", code])
    try:
        open_corpus(tmp_path / "growing", wait_for=16_384)
        asked = base(micro_recipe, corpus={"path": str(tmp_path / "growing")})
        run = run_study(asked, tmp_path / "run", None, StageDisplay(), wait_for=16_384, jobs=2)
    finally:
        assert builder.wait() == 0
    again = run_study(asked, tmp_path / "again", tmp_path / "later", StageDisplay())
    for name in ("spt", "dpt90"):
        one, other = (folder / f"models/{name}/model/model.safetensors" for folder in (run, again))
        assert one.read_bytes() == other.read_bytes()


def test_a_corpus_behind_an_address_is_read_by_every_process(built, micro_recipe, tmp_path, monkeypatch):
    root, _, _, given = built
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/corpus"
        asked = base(micro_recipe, corpus={"path": address}, arms={"spt": {}})
        run = run_study(asked, tmp_path / "run", None, StageDisplay(), jobs=2)
        evaluate_models([run], None, ["lm"], tmp_path / "evaluations", {}, StageDisplay())
        server.shutdown()
    one, other = (folder / "models/spt/model/model.safetensors" for folder in (run, given))
    assert one.read_bytes() == other.read_bytes()
    assert json.loads((run / "study.json").read_text())["places"]["corpus"] == address
    assert len(list((tmp_path / "evaluations").glob("*/evaluation.json"))) == 2
