"""Folders at addresses: whole or absent whatever a store does, claimed by one machine, gone on with by another."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from faulty import SECRET, Faulty, Killed, count, fault, faulty_store
from stillroom import checksums, disk, stores
from stillroom.stores import FarFolder, address_of, home_of, published
from stillroom.types import UserError

ADDRESS = "faulty://bucket/models/model-1"
FILES = {"config.json": b"{}", "model/weights.bin": bytes(range(256)) * 100, "model/manifest.json": b"[1]"}


@pytest.fixture(autouse=True)
def _store(monkeypatch):
    monkeypatch.setattr(stores, "POLL_SECONDS", 0.01)
    with faulty_store():
        yield


def written(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def sealed(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    checksums.seal(written(folder, files))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in checksums.files_of(folder)}


def there() -> set[str]:
    """The names of everything that the store holds."""
    return {path.removeprefix("/bucket/models/") for path in Faulty.store}


def make(home: Path, files: dict[str, bytes] = FILES, work: Path | None = None) -> bool:
    """Publishes a folder that is made in ``home``; whether it was made."""
    with published(home, ADDRESS, work):
        if checksums.is_sealed(home):
            return False
        sealed(home, files)
    return True


# Addresses


@pytest.mark.parametrize("address", ["s3://bucket/a", "s3://bucket/a/b c/ü%2F", "memory://x/y", "gs://b/runs/3"])
def test_a_home_tells_its_address(address):
    assert address_of(home_of(address)) == address == address_of(home_of(f"{address}/"))
    assert not home_of(address).exists()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("sftp://me:secret@host/x/y", "holds a name, password or signature"),
        ("s3://bucket/x?X-Amz-Signature=secret", "holds a name, password or signature"),
        ("https://host/x/y", "can be read and not written"),
        ("s3://bucket", "names no folder of a store"),
        ("s3://bucket/", "names no folder of a store"),
    ],
)
def test_an_address_that_cannot_be_written_is_refused(address, said):
    with pytest.raises(UserError, match=said) as caught:
        home_of(address)
    assert "secret" not in str(caught.value)


def test_a_folder_of_this_machine_is_the_home_of_no_address(tmp_path):
    assert address_of(tmp_path) is None
    with published(tmp_path, None):
        pass


# Whole or absent


def test_what_is_published_is_fetched_as_it_was(tmp_path):
    assert not FarFolder(ADDRESS).pull(tmp_path / "before") and not (tmp_path / "before").exists()
    FarFolder(ADDRESS).push(sealed(tmp_path / "a"))
    assert FarFolder(ADDRESS).pull(tmp_path / "b")
    assert content(tmp_path / "b") == FILES and checksums.check(tmp_path / "b") == []
    puts = [path.rpartition("/")[2] for call, path in Faulty.calls if call == "put"]
    assert puts[-2:] == ["manifest.json", "checksums.json"]  # what readers go by comes last


@pytest.mark.parametrize("kind", ["SlowDown", "InternalError", "connection", "truncated"])
@pytest.mark.parametrize(("call", "end"), [("put", "weights.bin"), ("put", "checksums.json"), ("get", "weights.bin"),
                                           ("cat", "checksums.json"), ("create", ".claim")])  # fmt: skip
def test_what_passes_is_waited_for(tmp_path, call, end, kind):
    fault(call, end, kind, times=2)
    assert make(tmp_path / "a")
    assert not make(tmp_path / "b")
    assert content(tmp_path / "b") == FILES


def test_files_that_a_store_shows_later_than_their_checksums_are_waited_for(tmp_path):
    FarFolder(ADDRESS).push(sealed(tmp_path / "a"))
    fault("get", "", "stale", times=4)
    assert FarFolder(ADDRESS).pull(tmp_path / "b") and content(tmp_path / "b") == FILES


@pytest.mark.parametrize(
    ("call", "end", "kind", "said"),
    [
        ("get", "weights.bin", "truncated", r"model/weights\.bin: is not what was published.*remove .*checksums\.json"),
        ("get", "weights.bin", "stale", r"model/weights\.bin: is not what was published"),
        ("cat", "checksums.json", "truncated", r"checksums\.json: is not what was published"),
        ("get", "weights.bin", "SlowDown", r"weights\.bin: cannot be read .*Device or resource busy.*try again later"),
        ("get", "weights.bin", "connection", r"weights\.bin: cannot be read .*RuntimeError.*try again later"),
        ("cat", "checksums.json", "forbidden", r"checksums\.json: cannot be read .*PermissionError.*the keys"),
        ("get", "weights.bin", "full", "no space is left on this disk"),
    ],
)
def test_what_does_not_pass_is_a_sentence_and_leaves_nothing(tmp_path, call, end, kind, said):
    FarFolder(ADDRESS).push(sealed(tmp_path / "a"))
    fault(call, end, kind, times=1000)
    with pytest.raises(UserError, match=said) as caught:
        FarFolder(ADDRESS).pull(tmp_path / "b")
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("kind", ["forbidden", "stale"])
def test_a_store_that_takes_nothing_is_told_before_anything_is_made(tmp_path, kind):
    fault("create", ".claim", kind, times=1000)
    with pytest.raises(UserError, match=r"\.model-1\.claim: cannot be (read or )?written") as caught:
        make(tmp_path / "a")
    assert SECRET not in str(caught.value) and not (tmp_path / "a").exists() and not there()


@pytest.mark.parametrize("end", ["weights.bin", "manifest.json", "checksums.json"])
def test_killed_before_its_checksums_a_folder_is_not_there(tmp_path, end):
    fault("put", end, "killed")
    with pytest.raises(Killed):
        make(tmp_path / "a")
    assert not FarFolder(ADDRESS).pull(tmp_path / "b")
    assert make(tmp_path / "c", {"config.json": b"another"})
    assert FarFolder(ADDRESS).pull(tmp_path / "b") and content(tmp_path / "b") == {"config.json": b"another"}


def test_killed_before_it_is_published_a_folder_is_not_made_again(tmp_path):
    fault("put", "weights.bin", "killed")
    with pytest.raises(Killed):
        make(tmp_path / "a")
    assert not make(tmp_path / "a")
    assert FarFolder(ADDRESS).pull(tmp_path / "b")


@pytest.mark.parametrize("name", ["../outside", "/outside", "model/../../outside"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    FarFolder(ADDRESS).write("checksums.json", checksums.sums_text({name: (1, checksums.hash_of(b"x"))}))
    with pytest.raises(UserError, match="is not what was published"):
        FarFolder(ADDRESS).pull(tmp_path / "a" / "b")
    assert not list(tmp_path.rglob("outside"))


def test_a_damaged_file_of_a_copy_is_fetched_again(tmp_path):
    FarFolder(ADDRESS).push(sealed(tmp_path / "a"))
    FarFolder(ADDRESS).pull(tmp_path / "b")
    (tmp_path / "b/model/weights.bin").write_bytes(b"damaged")
    Faulty.calls.clear()
    FarFolder(ADDRESS).mend(tmp_path / "b")
    assert content(tmp_path / "b") == FILES and list(count("get")) == ["weights.bin"]


def test_what_another_machine_published_takes_the_place_of_ones_own(tmp_path):
    make(tmp_path / "a")
    sealed(tmp_path / "b", {"config.json": b"another"})
    assert not make(tmp_path / "b")
    assert content(tmp_path / "b") == FILES


# One of several


@pytest.mark.parametrize("conditional", [True, False], ids=["with conditions", "without"])
def test_of_two_machines_one_makes_and_the_other_finds(tmp_path, conditional):
    Faulty.conditional = conditional
    begun, made = threading.Event(), []

    def first() -> None:
        with published(tmp_path / "a", ADDRESS):
            begun.set()
            time.sleep(0.1)
            made.append("a")
            sealed(tmp_path / "a")

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait()
    assert not make(tmp_path / "b")
    thread.join()
    assert made == ["a"] and content(tmp_path / "b") == FILES
    assert not [name for name in there() if name.endswith(".claim")]


def test_a_lost_answer_leaves_the_claim_to_whom_it_is(tmp_path, monkeypatch):
    real = Faulty.pipe_file

    def loses(self: Faulty, path: str, value: bytes, mode: str = "overwrite", **options: object) -> None:
        real(self, path, value, mode)
        if mode == "create":
            raise TimeoutError("no answer")

    monkeypatch.setattr(Faulty, "pipe_file", loses)
    assert make(tmp_path / "a")


def test_a_claim_that_was_let_go_of_between_two_looks_is_taken(tmp_path):
    fault("create", ".claim", "taken", times=3)
    assert make(tmp_path / "a")


def test_the_claim_of_a_machine_that_is_gone_is_taken_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "STALE_SECONDS", 0.2)
    FarFolder("faulty://bucket/models").write(".model-1.claim", b"word owner 1")
    begin = time.monotonic()
    assert make(tmp_path / "a") and time.monotonic() - begin > 0.2


def test_a_claim_that_is_renewed_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "STALE_SECONDS", 0.2)
    far, done = FarFolder("faulty://bucket/models"), threading.Event()

    def lives() -> None:
        for beat in range(12):
            far.write(".model-1.claim", f"word owner {beat}".encode())
            time.sleep(0.05)
        done.set()

    far.write(".model-1.claim", b"word owner first")
    thread = threading.Thread(target=lives)
    thread.start()
    assert make(tmp_path / "a") and done.is_set()
    thread.join()


def test_the_claim_of_a_dead_process_of_this_machine_is_taken_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(stores._FarClaim, "release", lambda self: None)  # as one that is killed
    assert make(tmp_path / "a")
    for path in [path for path in Faulty.store if not path.endswith(".claim")]:
        del Faulty.store[path]
    begin = time.monotonic()
    assert not make(tmp_path / "a") and time.monotonic() - begin < 30


def test_a_claim_is_renewed_while_work_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "BEAT_SECONDS", 0.01)
    seen = set()
    with published(tmp_path / "a", ADDRESS):
        while len(seen) < 3:
            seen.add(FarFolder("faulty://bucket/models").read(".model-1.claim"))
        sealed(tmp_path / "a")


# Work that another machine goes on with


class Died(BaseException):
    """The machine is gone: not even its last words are kept."""


def dies(home: Path, monkeypatch, states: list[dict[str, bytes]]) -> None:
    """A machine works until every state of its work folder was kept, begins another one, and is gone."""
    work = home / "work"
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(stores, "MIRROR_SECONDS", 0.01)
        patch.setattr(disk, "STALE_SECONDS", 0.0)
        patch.setattr(stores._FarClaim, "release", lambda self: None)
        with published(home / "folder", ADDRESS, work):
            for state in states:
                written(work, state)
                while not kept_at_store(content(work)):
                    time.sleep(0.01)
            patch.setattr(stores._Mirror, "try_to_save", lambda self: None)
            written(work, {"late.bin": b"lost"})
            raise Died


def kept_at_store(files: dict[str, bytes]) -> bool:
    mark = FarFolder(f"{ADDRESS.rpartition('/')[0]}/.model-1.unfinished").mark()
    wanted = checksums.sums_text({name: (len(files[name]), checksums.hash_of(files[name])) for name in sorted(files)})
    return mark == wanted


def test_another_machine_goes_on_with_the_newest_state(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "STALE_SECONDS", 0.1)
    dies(tmp_path / "a", monkeypatch, [{"log": b"1"}, {"log": b"1 2", "step-2/weights": b"w2"}])
    with published(tmp_path / "b", ADDRESS, tmp_path / "b-work"):
        assert content(tmp_path / "b-work") == {"log": b"1 2", "step-2/weights": b"w2"}
        sealed(tmp_path / "b")
    assert not [name for name in there() if "unfinished" in name or name.endswith(".claim")]


def test_a_machine_goes_on_with_its_own_newer_work_and_with_that_of_another(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "STALE_SECONDS", 0.1)
    dies(tmp_path / "a", monkeypatch, [{"log": b"1"}])
    with pytest.raises(Died), published(tmp_path / "a/folder", ADDRESS, tmp_path / "a/work"):
        assert content(tmp_path / "a/work") == {"log": b"1", "late.bin": b"lost"}
        raise Died  # its last words are kept this time
    dies(tmp_path / "b", monkeypatch, [{"log": b"1 2 3"}])
    with published(tmp_path / "a/folder", ADDRESS, tmp_path / "a/work"):
        assert content(tmp_path / "a/work") == {"log": b"1 2 3", "late.bin": b"lost"}
        sealed(tmp_path / "a/folder")


@pytest.mark.parametrize("kind", ["killed", "InternalError", "forbidden"])
def test_a_state_that_could_not_be_kept_leaves_the_one_before(tmp_path, kind):
    far = FarFolder("faulty://bucket/models/.model-1.unfinished", by_content=True)
    mirror = stores._Mirror(far, written(tmp_path / "a", {"log": b"1"}), lambda: True)
    mirror.save()
    written(tmp_path / "a", {"log": b"1 2"})
    fault("put", "checksums.json", kind, times=1000)
    with pytest.raises(BaseException):  # noqa: B017
        mirror.save()
    Faulty.faults.clear()
    assert far.pull(tmp_path / "b") and content(tmp_path / "b") == {"log": b"1"}


def test_only_what_is_new_is_sent_and_what_is_old_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "_SMALL", 100)  # both ways of sending
    mirror = stores._Mirror(FarFolder("faulty://bucket/models/.w", by_content=True), tmp_path / "a", lambda: True)
    mirror.save()
    assert not there()
    written(tmp_path / "a", {"step-1": b"w" * 1000, "log": b"1"})
    mirror.save()
    written(tmp_path / "a", {"log": b"1 2"})
    Faulty.calls.clear()
    mirror.save()
    assert set(count("put")) == {checksums.hash_of(b"1 2"), "checksums.json"}
    (tmp_path / "a/step-1").unlink()
    mirror.save()
    Faulty.calls.clear()
    mirror.save()
    assert there() == {".w/checksums.json", f".w/{checksums.hash_of(b'1 2')}"} and not count("put")


def test_a_large_file_that_changes_while_it_is_sent_is_not_taken_for_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "_SMALL", 0)
    work = written(tmp_path / "a", {"log": b"1"})
    mirror = stores._Mirror(FarFolder("faulty://bucket/models/.w", by_content=True), work, lambda: True)
    real = Faulty.put_file

    def grows(self: Faulty, lpath: str, rpath: str, *arguments: object, **options: object) -> None:
        real(self, lpath, rpath)
        (work / "log").write_bytes(b"1 2")

    monkeypatch.setattr(Faulty, "put_file", grows)
    mirror.try_to_save()
    assert mirror._far.mark() is None
    monkeypatch.undo()
    mirror.try_to_save()
    assert mirror._far.pull(tmp_path / "b") and content(tmp_path / "b") == {"log": b"1 2"}


def test_a_store_that_is_out_of_reach_stops_no_work(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(stores, "MIRROR_SECONDS", 0.01)
    with published(tmp_path / "a", ADDRESS, tmp_path / "work"):
        fault("put", "", "InternalError", times=1000)
        written(tmp_path / "work", {"log": b"1"})
        while not caplog.records:
            time.sleep(0.01)
        Faulty.faults.clear()
        sealed(tmp_path / "a")
    assert "Work goes on" in caplog.text and FarFolder(ADDRESS).pull(tmp_path / "b")


def test_whoever_lost_the_claim_keeps_nothing_more(tmp_path):
    work = tmp_path / "work"
    with pytest.raises(Killed), published(tmp_path / "a", ADDRESS, work):
        FarFolder("faulty://bucket/models").write(".model-1.claim", b"word another 1")
        written(work, {"log": b"1"})
        raise Killed
    assert there() == {".model-1.claim"}
