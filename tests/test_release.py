"""What is published: a wheel and a source that hold what they should, and files that agree with one another."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import stillroom

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CORE = {Requirement(text).name: Requirement(text) for text in PROJECT["project"]["dependencies"]}
EXTRAS = PROJECT["project"]["optional-dependencies"]
BROUGHT = {
    "tokenizers": "transformers", "safetensors": "transformers", "huggingface-hub": "transformers",
    "packaging": "transformers", "markupsafe": "jinja2", "pydantic-core": "pydantic",
}  # fmt: skip
"""Packages that are imported and that another one, whose versions are bounded, asks for."""
ELSEWHERE = {"yaml": "pyyaml", "_typeshed": "", "vllm": "", "pytest": ""}
"""Packages by the names that are imported where those differ; empty for what is looked for, or loads us."""


def _sources() -> list[Path]:
    """Files and folders that the source distribution names."""
    named = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    return [file for one in named for file in ROOT.glob(one.strip("/"))]


def _built(folder: Path, mask: int) -> dict[str, bytes]:
    """Wheel and source, built from a copy whose files have other times and permissions."""
    copy = folder / "copy"
    copy.mkdir(parents=True)
    for one in (*_sources(), ROOT / "pyproject.toml", ROOT / ".gitignore"):
        if one.is_dir():
            shutil.copytree(
                one, copy / one.name, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile
            )
        else:
            shutil.copyfile(one, copy / one.name)
    for file in copy.rglob("*"):
        os.utime(file, (mask * 1e6, mask * 1e6))
        file.chmod(0o777 & ~mask)
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder / "dist")]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, umask=mask)
    assert done.returncode == 0, done.stderr
    return {file.name: file.read_bytes() for file in sorted((folder / "dist").iterdir())}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a build."""
    folder = tmp_path_factory.mktemp("build")
    _built(folder, 0o022)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


def test_wheel_and_source_are_the_same_bytes_whoever_builds_them(dist: Path, tmp_path: Path) -> None:
    first = {file.name: file.read_bytes() for file in sorted(dist.iterdir())}
    assert len(first) == 2 and first == _built(tmp_path, 0o077)


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {file.relative_to(ROOT / "src").as_posix() for file in (ROOT / "src").rglob("*") if file.is_file()}
    assert names == {name for name in files if "__pycache__" not in name}
    assert "stillroom/py.typed" in names


def test_the_source_has_what_tests_and_site_read_and_gives_the_same_wheel(
    dist: Path, wheel: Path, tmp_path: Path
) -> None:
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    wanted = {file for one in _sources() for file in (one.rglob("*") if one.is_dir() else [one]) if file.is_file()}
    missing = [
        file for file in wanted if "__pycache__" not in file.parts and not (unpacked / file.relative_to(ROOT)).is_file()
    ]
    assert missing == []
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "again")]
    subprocess.run(command, cwd=unpacked, check=True, capture_output=True)
    assert (tmp_path / "again" / wheel.name).read_bytes() == wheel.read_bytes()


def test_everything_that_is_tracked_and_no_secret_of_git_is_in_the_source() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    first = {name.split("/")[0] for name in tracked if name}
    left_out = first - {one.name for one in _sources()} - {"pyproject.toml", ".gitignore"}
    assert left_out <= {".github", ".pre-commit-config.yaml"}, left_out


def _run(place: Path, code: str, folder: Path) -> str:
    """What a program prints that runs in an empty folder, with the package from ``place``."""
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(place)
    return place


CALL = """
from stillroom.cli.main import run
for words in {commands!r}:
    try:
        run(words.split())
    except SystemExit as left:
        assert not left.code, words
import stillroom, sys
assert stillroom.__file__.startswith({place!r}), stillroom.__file__
"""


def test_every_recipe_of_the_wheel_is_read_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    from stillroom.study import available_recipes

    commands = [f"config {name}" for name in available_recipes()]
    shown = _run(installed, CALL.format(commands=commands, place=str(installed)), tmp_path / "empty")
    assert "quickstart" in shown and not list((tmp_path / "empty").iterdir())


@pytest.mark.slow
def test_the_wheel_makes_a_study_its_page_and_a_student_and_runs_the_example(installed: Path, tmp_path: Path) -> None:
    commands = [one for one in _script("matrix").COMMANDS if one not in ("--version", "doctor")]
    _run(installed, CALL.format(commands=commands, place=str(installed)), tmp_path / "empty")
    page = (tmp_path / "empty/page.html").read_text()
    assert "<svg" in page and (tmp_path / "empty/student/config.json").is_file()
    example = [sys.executable, ROOT / "examples/hf_trainer_from_store.py", "run/labels", "out"]
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(example, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_core_asks_for_twelve_packages_at_most() -> None:
    assert len(CORE) <= 12, sorted(CORE)


@functools.cache
def _imported() -> dict[str, set[str]]:
    """Packages that the source imports, with the files that do."""
    found: dict[str, set[str]] = {}
    for file in (ROOT / "src").rglob("*.py"):
        for part in ast.walk(ast.parse(file.read_text())):
            names = [one.name for one in part.names] if isinstance(part, ast.Import) else []
            if isinstance(part, ast.ImportFrom) and not part.level:
                names = [part.module or ""]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top != "stillroom":
                    found.setdefault(ELSEWHERE.get(top, top).replace("_", "-"), set()).add(file.name)
    found.pop("", None)
    return found


def test_every_package_that_is_imported_is_asked_for() -> None:
    optional = {Requirement(text).name for texts in EXTRAS.values() for text in texts}
    unknown = {name: files for name, files in _imported().items() if name not in {*CORE, *optional, *BROUGHT}}
    assert unknown == {}


@pytest.mark.parametrize("name", BROUGHT)
def test_what_another_package_brings_it_asks_for_itself(name: str) -> None:
    asked = [Requirement(text) for text in importlib.metadata.requires(BROUGHT[name]) or ()]
    assert name in [one.name.lower() for one in asked if one.marker is None], f"{BROUGHT[name]} does not bring {name}"
    assert BROUGHT[name] in CORE


def test_every_package_that_is_asked_for_is_imported() -> None:
    assert set(CORE) - set(_imported()) == set()


def test_every_extra_is_named_where_it_is_missed_and_no_other_is() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
    texts = {page: page.read_text() for page in pages}
    named = {name for text in texts.values() for name in re.findall(r"stillroom\[([\w-]+)\]", text)}
    by_scheduler = {"slurm", "ray"}  # stillroom/executors says it by the scheduler's name
    assert named == set(EXTRAS) and by_scheduler <= named
    in_source = {
        name
        for page, text in texts.items()
        if page.suffix == ".py"
        for name in re.findall(r"stillroom\[([\w-]+)\]", text)
    }
    assert set(EXTRAS) - by_scheduler <= in_source


def test_whoever_has_no_gpu_is_told_of_the_small_torch() -> None:
    assert re.search(r"gigabytes of CUDA; without a GPU, install the CPU build first", (ROOT / "README.md").read_text())


def test_what_is_pinned_is_what_is_asked_for() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    assert {name: pins.get(name) for name, one in CORE.items() if not one.specifier.contains(pins.get(name, "0"))} == {}


def test_the_version_is_written_alike() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert stillroom.__version__ == PROJECT["project"]["version"] == cited["version"]
    assert cited["license"] == PROJECT["project"]["license"] and cited["cff-version"] == "1.2.0" and cited["authors"]
    assert f"## {stillroom.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_workflows_run_what_there_is_on_every_python() -> None:
    flows = {file.stem: file.read_text() for file in (ROOT / ".github/workflows").glob("*.yml")}
    ci, release = (yaml.safe_load(flows[name])["jobs"] for name in ("ci", "release"))
    pythons = [one.rpartition(" ")[2] for one in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", one)]
    assert ci["matrix"]["strategy"]["matrix"]["python"] == pythons
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    assert any(step.get("run") == "bash .ci/run" for step in ci["checks"]["steps"])
    assert release["publish"]["permissions"] == {"id-token": "write"}
    makefile = (ROOT / "Makefile").read_text()
    assert f"PYTHONS := {' '.join(pythons)}\n" in makefile
    rules = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    calls = {step["run"] for job in (*ci.values(), *release.values()) for step in job["steps"] if "run" in step}
    asked = {word for call in calls if call.startswith("make ") for word in call.partition("=")[0].split()[1:]} - {
        "PYTHONS"
    }
    assert asked and asked <= rules, asked - rules


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_links_of_the_pages_beside_readme_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^)\s#]+)", (ROOT / page).read_text())
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


@pytest.mark.parametrize(
    "file", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda file: file.stem
)
def test_forms_for_issues_are_whole(file: Path) -> None:
    form = yaml.safe_load(file.read_text())
    assert form["name"] and form["description"] and all(part["attributes"]["label"] for part in form["body"])


def _script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / f".ci/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_matrix_tries_tests_that_there_are() -> None:
    matrix = _script("matrix")
    assert [one for one in matrix.TESTS if not (ROOT / one).exists()] == []


PINNED = {"name": "one", "version": "1.0", "vulns": []}
WEAK = {**PINNED, "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}]}
SKIPPED = {"name": "one", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("answer", "ends", "said"),
    [
        ("", None, "nothing was audited"),
        (json.dumps({"dependencies": [SKIPPED]}), None, "nothing was audited"),
        (json.dumps({"dependencies": [SKIPPED, WEAK]}), 1, "one 1.0: CVE-1, mended in 1.1\naudit: 1 packages, 1 known"),
        (json.dumps({"dependencies": [PINNED]}), 0, "audit: 1 packages, 0 known"),
    ],
    ids=["unreachable", "unanswered", "known", "none"],
)
def test_the_audit_says_whether_anybody_was_asked(monkeypatch, capsys, answer, ends, said) -> None:
    audit = _script("audit")
    monkeypatch.setattr(sys, "argv", ["audit.py", "requirements.lock"])
    done = subprocess.CompletedProcess([], 1, answer, "ConnectionError: nowhere")
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: done)
    left = None
    try:
        audit.main()
    except SystemExit as error:
        left = error.code
    assert left == ends and said in capsys.readouterr().out
