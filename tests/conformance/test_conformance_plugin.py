"""The page on conformance is right: its files, in an empty folder, and what pytest then says."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stillroom.conformance import PROPERTIES, Broken, NotDeclared, load_adapter, prove
from stillroom.conformance.properties import why
from stillroom.types import UserError

DOCS = Path(__file__).parents[2] / "docs"
FILES = {
    place[1]: code
    for code in re.findall(r"^```python\n(.*?)^```", (DOCS / "conformance.md").read_text(), re.M | re.S)
    if (place := re.match(r"# (\w+)\.py\n", code))
}
PLUGIN = ["-p", "stillroom.conformance.plugin", "-p", "no:cacheprovider"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder but for the files of the page."""
    for name, code in FILES.items():
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """How a run of pytest inside this one ends, and what it prints."""
    code = pytest.main([*PLUGIN, "-q", *words])
    return int(code), capsys.readouterr().out


def test_a_wrong_adapter_of_the_page_fails_in_one_sentence(folder: Path, capsys) -> None:
    code, out = said(capsys, "--distillation-adapter", "my_package:forgetful")
    assert code == 1 and "1 failed, 4 passed, 17 skipped" in out
    assert re.search(r"^without T², temperature: .* expected .* found .*0\.25 times.*tolerance.*prove\(", out, re.M)
    assert why("temperature") in out and "Traceback" not in out
    assert re.search(r"^FAILED my_package:forgetful::temperature", out, re.M)


def test_what_a_right_adapter_declares_passes_and_the_rest_is_told(folder: Path, capsys) -> None:
    code, out = said(capsys, "--distillation-adapter", "my_package:adapter")
    assert code == 0 and "5 passed, 17 skipped" in out
    told = dict(re.findall(r"^([\w-]+): (.+)$", out.partition("not declared by the adapter")[2], re.M))
    assert told.keys() == PROPERTIES.keys() - {"identity", "gradient", "temperature", "ignore-index", "micro-batches"}


def test_the_trainer_of_the_page_is_right(folder: Path, capsys) -> None:
    code, out = said(capsys, "--distillation-adapter", "my_trainer:adapter")
    assert code == 0 and "6 passed, 16 skipped" in out


def test_a_loss_alone_is_an_adapter_and_tests_of_a_folder_run_beside_it(folder: Path, capsys) -> None:
    (folder / "test_own.py").write_text("def test_own(): pass\n")
    code, out = said(capsys, "--distillation-adapter", "my_package:loss")
    assert code == 0 and "3 passed, 20 skipped" in out
    code, out = said(capsys, "--pyargs", "stillroom.conformance", "--distillation-adapter", "my_package:loss")
    assert code == 0 and "2 passed, 20 skipped" in out
    code, out = said(capsys, "--distillation-adapter", "my_package:loss", "-k", "identity")
    assert code == 0 and "1 passed, 22 deselected" in out


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("my_package", "expected module:name"),
        ("nowhere:adapter", "nowhere:adapter could not be loaded (ModuleNotFoundError"),
        ("my_package:nothing", "my_package:nothing could not be loaded (AttributeError"),
        ("my_package:__doc__", "my_package:__doc__ is a str, expected an Adapter or a loss"),
    ],
    ids=["no-colon", "no-module", "no-name", "no-adapter"],
)
def test_a_wrong_place_is_one_sentence(place: str, sentence: str, folder: Path) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        load_adapter(place)


def test_a_wrong_place_ends_pytest_without_a_traceback(folder: Path, capsys) -> None:
    assert pytest.main([*PLUGIN, "-q", "--distillation-adapter", "nowhere:adapter"]) == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in capsys.readouterr().err


def test_one_property_is_proved_by_name(folder: Path) -> None:
    prove("my_package:adapter", "temperature")
    with pytest.raises(Broken, match=r"prove\('my_package:forgetful', 'temperature'\)$"):
        prove("my_package:forgetful", "temperature")
    with pytest.raises(NotDeclared, match="softcap"):
        prove("my_package:adapter", "soft-cap")
    with pytest.raises(UserError, match="property 'temprature': is not one; expected one of identity"):
        prove("my_package:adapter", "temprature")


def test_every_property_says_why_in_a_sentence_or_two() -> None:
    for name in PROPERTIES:
        assert 1 <= why(name).count(".") <= 2 and 60 < len(why(name)) < 320, name


def test_the_page_says_what_opens_every_property() -> None:
    opened = (DOCS / "conformance.md").read_text().partition("| opens |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z-]+)`", opened)) >= PROPERTIES.keys()


@pytest.mark.slow
def test_the_command_of_the_page_runs_from_an_installed_wheel(folder: Path, tmp_path_factory) -> None:
    """As printed: the plugin is found by its entry point. What is installed stands elsewhere."""
    pip, alone = [sys.executable, "-m", "pip"], ["--quiet", "--no-index", "--no-deps", "--disable-pip-version-check"]
    place = tmp_path_factory.mktemp("wheel")
    build = [*pip, "wheel", *alone, "--no-build-isolation", "--wheel-dir", "dist", str(DOCS.parent)]
    subprocess.run(build, cwd=place, check=True, timeout=120)
    (wheel,) = (place / "dist").glob("*.whl")
    subprocess.run([*pip, "install", *alone, "--target", "installed", str(wheel)], cwd=place, check=True, timeout=120)
    code = (
        f"import sys; sys.path[:1] = [{str(place / 'installed')!r}]; import pytest;"
        "sys.exit(pytest.main(['--distillation-adapter', 'my_package:adapter']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, env={})
    assert ran.returncode == 0 and "5 passed, 17 skipped" in ran.stdout, ran.stdout + ran.stderr
