"""Object stores by a real S3 server on this machine: what s3fs and botocore make of its failures, and kills."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_server import KEY, SECRET, FailingS3, s3_server
from stillroom import checksums, stores
from stillroom.corpora import open_corpus
from stillroom.labels import LabelStore
from stillroom.stores import FarFolder, published
from stillroom.types import UserError

pytest.importorskip("moto.server", reason="package moto[server] is not installed")
s3fs = pytest.importorskip("s3fs", reason="package s3fs is not installed")
pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SMALL = str(Path(__file__).parent / "small_study.py")
ADDRESS = "s3://bucket/artifacts"
MACHINE = """
import sys, time
from stillroom import disk, stores
stores.MIRROR_SECONDS, stores.POLL_SECONDS, disk.BEAT_SECONDS, disk.STALE_SECONDS = 0.05, 0.2, 0.5, 3.0
if (pause := float(sys.argv.pop(1))):
    from stillroom.training import loop
    real = loop._timed_step
    loop._timed_step = lambda *arguments: (time.sleep(pause), real(*arguments))[1]
from stillroom.cli import main
main.run(sys.argv[1:])
"""
"""A machine that looks more often than others, and takes its time for every step."""
PATIENCE = 300.0


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[FailingS3, dict[str, str]]]:
    with s3_server() as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found[1].items():
            patch.setenv(name, value)
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("bucket")
        yield found


@pytest.fixture
def s3(server, monkeypatch) -> Iterator[FailingS3]:
    """The server without faults, its bucket empty."""
    monkeypatch.setattr(stores, "PAUSES", (0.0, 0.1, 0.1, 0.1, 0.1))
    monkeypatch.setattr(stores, "POLL_SECONDS", 0.05)
    server[0].faults.clear()
    server[0].failed.clear()
    system = files()
    for path in system.find("bucket"):
        system.rm_file(path)
    yield server[0]


def files() -> Any:
    system = s3fs.S3FileSystem()
    system.invalidate_cache()
    return system


def sealed(folder: Path, size: int = 1000) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights.bin").write_bytes(os.urandom(size))
    (folder / "config.json").write_text("{}")
    checksums.seal(folder)
    return folder


def on_machine(root: Path, name: str, *arguments: str, pause: float = 0.0) -> subprocess.Popen[str]:
    environment = os.environ | {"STILLROOM_CACHE": str(root / name), "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
    command = [sys.executable, "-c", MACHINE, str(pause), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, said
    return said


def results(root: Path) -> dict[str, str]:
    """The hashes of what was made in a folder of artifacts."""
    patterns = ("*.safetensors", "*.bin", "samples.jsonl", "tokenizer.json", "corpus.json")
    found = [path for pattern in patterns for path in root.glob(f"[a-z]*/**/{pattern}")]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.parametrize("kind", ["SlowDown", "InternalError", "truncated"])
@pytest.mark.parametrize(("method", "end"), [("GET", "weights.bin"), ("GET", "checksums.json"), ("PUT", "weights.bin"),
                                             ("PUT", "checksums.json"), ("PUT", ".claim")])  # fmt: skip
def test_what_passes_is_waited_for(s3, tmp_path, method, end, kind):
    if kind == "truncated" and method == "PUT":
        pytest.skip("an upload that is cut off is an error of the server")
    s3.fault(method, end, kind, times=3)
    with published(tmp_path / "a", f"{ADDRESS}/model-1"):
        sealed(tmp_path / "a")
    assert FarFolder(f"{ADDRESS}/model-1").pull(tmp_path / "b")
    assert checksums.check(tmp_path / "b") == [] and s3.failed
    assert not [path for path in files().find("bucket") if path.endswith(".claim")]


def test_a_large_file_goes_in_several_parts_and_comes_back(s3, tmp_path):
    FarFolder(f"{ADDRESS}/model-1").push(sealed(tmp_path / "a", size=110 << 20))
    found = files().info("bucket/artifacts/model-1/model/weights.bin")
    assert found["ETag"].strip('"').endswith("-3") and found["size"] == 110 << 20
    assert FarFolder(f"{ADDRESS}/model-1").pull(tmp_path / "b") and checksums.check(tmp_path / "b") == []


def test_one_of_many_claims_a_folder(s3, tmp_path):
    claims = [stores._FarClaim(f"{ADDRESS}/model-1", str(number)) for number in range(6)]
    taken: list[bool] = []
    threads = [threading.Thread(target=lambda one=one: taken.append(one._take())) for one in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 5 + [True]
    assert [one.is_held() for one in claims].count(True) == 1


def test_an_old_listing_is_not_believed(s3, tmp_path):
    far = FarFolder(f"{ADDRESS}/model-1")
    far.where[0].ls("bucket")
    far.write(".other", b"x")
    far.where[0].ls("bucket/artifacts", refresh=True)  # remembered by s3fs
    other = s3fs.S3FileSystem(skip_instance_cache=True)
    for path in sealed(tmp_path / "a").rglob("*.*"):
        other.put_file(str(path), f"bucket/artifacts/model-1/{path.relative_to(tmp_path / 'a')}")
    assert far.pull(tmp_path / "b") and checksums.check(tmp_path / "b") == []


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["study", SMALL, "--artifacts", ADDRESS], {"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, "(403)"),
        (["study", SMALL, "--artifacts", "s3://nosuchbucket/x"], {}, "no such store"),
        (["label", "world:bigram", "--tokens", "512", "--out", ADDRESS], {"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, "(403)"),
        (["study", SMALL, "--corpus", ADDRESS], {"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, "(403)"),
    ],
    ids=["artifacts", "no bucket", "labels", "reading a corpus"],
)
def test_a_mistake_is_one_sentence_without_a_key(s3, tmp_path, monkeypatch, arguments, environment, said):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = [] if arguments[0] == "label" else ["--out", str(tmp_path / "run")]
    told = ended(on_machine(tmp_path, "a", *arguments, *out), code=2)
    assert said in told and told.count("stillroom: ") == 1 and "Traceback" not in told
    assert not [secret for secret in (KEY, SECRET, "AKIAWRONG") if secret in told]
    assert not (tmp_path / "run").exists()


def test_without_keys_a_store_is_a_sentence(s3, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    told = ended(on_machine(tmp_path, "a", "label", "world:bigram", "--tokens", "512", "--out", ADDRESS), code=2)
    assert "NoCredentialsError" in told and "the keys" in told


def test_a_machine_is_killed_and_another_goes_on_with_its_training_bit_for_bit(s3, tmp_path):
    study = ["study", SMALL]
    ended(on_machine(tmp_path, "x", *study, "--out", str(tmp_path / "x/run")))
    asked = [*study, "--artifacts", ADDRESS, "--set", "training.checkpoint_seconds=0.1"]
    first = on_machine(tmp_path, "a", *asked, "--out", str(tmp_path / "a/run"), pause=0.5)
    deadline = time.monotonic() + PATIENCE
    while not files().glob("bucket/artifacts/.model-*.unfinished/checksums.json"):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    said = ended(on_machine(tmp_path, "b", *asked, "--out", str(tmp_path / "b/run")))
    assert "another machine is making it now" in said
    home = next((tmp_path / "b/stores").iterdir())
    local = results(tmp_path / "x/artifacts")
    assert local and results(home) == local
    left = [path for path in files().find("bucket") if "/." in path]
    assert left == []
    ended(on_machine(tmp_path, "c", *asked, "--out", str(tmp_path / "c/run")))
    assert results(next((tmp_path / "c/stores").iterdir())) == local


def test_two_machines_share_a_study(s3, tmp_path):
    asked = ["study", SMALL, "--artifacts", ADDRESS]
    both = [on_machine(tmp_path, name, *asked, "--out", str(tmp_path / name / "run"), pause=0.1) for name in "ab"]
    for process in both:
        ended(process)
    first, second = (results(next((tmp_path / name / "stores").iterdir())) for name in "ab")
    assert first == second and first


def test_ranks_of_one_machine_train_together_and_those_of_another_find_it(s3, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "stillroom"]
    for name in "ab":
        environment = os.environ | {"STILLROOM_CACHE": str(tmp_path / name), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *torchrun, "train", SMALL, "--arm", "spt", "--artifacts", ADDRESS]
        ended(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    first, second = (results(next((tmp_path / name / "stores").iterdir())) for name in "ab")
    assert first == second and any(name.startswith("model-") for name in first)
    assert not [path for path in files().find("bucket") if "/." in path]


def test_a_killed_labelling_is_gone_on_with_elsewhere(s3, tmp_path):
    asked = ["label", "world:bigram", "--tokens", "600000", "--length", "256", "--out", "s3://bucket/labels"]
    first = on_machine(tmp_path, "a", *asked)
    deadline = time.monotonic() + PATIENCE
    while len(files().glob("bucket/.labels.unfinished/*")) < 4:
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    ended(on_machine(tmp_path, "b", *asked))
    store = LabelStore.open("s3://bucket/labels", cache=tmp_path / "cache")
    assert len(list(store.verify())) == store.manifest.num_shards


def test_a_corpus_is_built_to_a_bucket_and_read_from_it(s3, tmp_path):
    build = ["corpus", "build", "facts", "--train-tokenizer", "300", "--tokens", "2k", "--length", "32"]
    ended(on_machine(tmp_path, "a", *build, "--heldout-tokens", "64", "--out", "s3://bucket/corpora/small"))
    s3.fault("GET", ".npy", "InternalError", times=3)
    corpus = open_corpus("s3://bucket/corpora/small")
    assert len(corpus.train.tokens(range(len(corpus.train)))) > 30


def test_what_a_store_does_not_give_in_the_end_is_a_sentence(s3, tmp_path):
    FarFolder(f"{ADDRESS}/model-1").push(sealed(tmp_path / "a"))
    s3.fault("GET", "weights.bin", "InternalError", times=10_000)
    with pytest.raises(UserError, match=r"weights\.bin: cannot be read .*\(InternalError\).*try again later"):
        FarFolder(f"{ADDRESS}/model-1").pull(tmp_path / "b")
    assert not (tmp_path / "b").exists()
