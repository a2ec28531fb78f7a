"""Every command of README, the how-to and the pages to start with, as it stands there, on a study of seconds."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from stillroom.cli.main import app, run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCKS = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [*sorted((DOCS / "howto").glob("*.md")), DOCS / "quickstart.md", DOCS / "trainer.md", ROOT / "README.md"]
WITH_BLOCKS = [page for page in PAGES if BLOCKS.search(page.read_text(encoding="utf-8"))]
RUN_ELSEWHERE = {
    "stillroom study quickstart --jobs 2": "Makefile",  # ten minutes
    "stillroom init mine texts": "tests/test_first_hour.py",
    "stillroom study quickstart --dry-run": "tests/study/test_plan.py",
    "stillroom study mine.py --dry-run": "tests/test_first_hour.py",
}
"""Commands that are run once, and where, though several pages name them."""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, micro_recipe: Path) -> Path:
    """A folder with ``mine.py``, its run, whose checkpoints are kept, and some text."""
    folder = tmp_path_factory.mktemp("site")
    recipe = micro_recipe.read_text().replace("def micro()", "def mine()").replace('name="micro"', 'name="mine"')
    recipe = re.sub(r' *"routed": .*\n', "", recipe).replace("validate_every=4", "validate_every=4, keep_every=4")
    recipe = recipe.replace("evaluation=EvaluationConfig(", 'evaluation=EvaluationConfig(suites=("lm",),')
    (folder / "mine.py").write_text(recipe)
    (folder / "texts").mkdir()
    for name in ("correctness.md", "evaluation.md", "LOG.md"):
        shutil.copyfile(DOCS / name, folder / "texts" / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done("stillroom study mine.py --out runs/mine")
    return folder


def done(command: str) -> None:
    """Runs a command of stillroom to its end."""
    with pytest.raises(SystemExit) as left:
        run(shlex.split(command)[1:])
    assert not left.value.code, command


@pytest.mark.filterwarnings("ignore:.*pin_memory.*")
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.stem)
def test_every_block_of_a_page_does_what_it_says(page: Path, shelf: Path, tmp_path: Path, monkeypatch) -> None:
    for name in ("mine.py", "texts"):
        (tmp_path / name).symlink_to(shelf / name)
    shutil.copytree(shelf / "runs", tmp_path / "runs", symlinks=True)
    monkeypatch.chdir(tmp_path)
    for kind, text in BLOCKS.findall(page.read_text(encoding="utf-8")):
        if kind == "python":
            _python(text, page.stem)
        else:
            for line in text.splitlines():
                _command(re.sub(r"\s+#.*", "", line))


def _command(line: str) -> None:
    if line.startswith("make "):
        assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
    elif not line.startswith("pip ") and line not in RUN_ELSEWHERE:
        done(line)


def _python(text: str, page: str) -> None:
    """README leaves three names to the reader's own trainer."""
    given: dict[str, object] = {"__name__": "page"}
    if page in ("README", "trainer"):
        done("stillroom label runs/mine:teacher --corpus runs/mine --tokens 2048 --out labels")
    if page == "README":
        import torch

        from stillroom.labels import LabelCollator, LabelDataset, LabelStore

        store = LabelStore.open("labels")
        tokens = LabelCollator(store)([LabelDataset(store)[0]])["input_ids"]
        vocabulary = store.manifest.identity["vocab_size"]
        given |= {"tokens": tokens, "hidden": torch.randn(tokens.numel(), 8), "unembedding": torch.randn(vocabulary, 8)}
    exec(compile(text, page, "exec"), given)


@pytest.mark.parametrize("page", ["evaluation", "sandbox"])
def test_programs_of_other_pages_run(page: str) -> None:
    for kind, text in BLOCKS.findall((DOCS / f"{page}.md").read_text(encoding="utf-8")):
        if kind == "python":
            _python(text, page)


def _verbs(command: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Every verb with its options."""
    for verb, inner in getattr(command, "commands", {}).items():
        yield from _verbs(inner, (*name, verb))
    if not hasattr(command, "commands"):
        yield name, {option for one in command.params for option in (*one.opts, *one.secondary_opts)}


def _named_commands(text: str) -> Iterator[list[str]]:
    """The words of every command of stillroom that a page names, in a block or in a line of text."""
    for line in re.findall(
        r"(?:^|`)(?: *\$? *)((?:torchrun .*-m )?stillroom [^`\n]*)", text.replace("\\\n", " "), re.MULTILINE
    ):
        yield line.partition(" #")[0].partition("stillroom ")[2].split()


def test_every_command_on_any_page_has_its_verb_and_its_options() -> None:
    verbs = dict(_verbs(typer.main.get_command(app)))
    pages = [ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "experiments").rglob("*.md")]
    for page in (page for page in pages if page.name != "LOG.md"):
        for words in _named_commands(page.read_text(encoding="utf-8")):
            found = next((verb for verb in verbs if tuple(words[: len(verb)]) == verb), None)
            options = {word.partition("=")[0].rstrip(".,;:") for word in words if re.match(r"--?[a-z]", word)}
            group = words[:1] and any(verb[0] == words[0].rstrip(".,;:") for verb in verbs)
            assert found or (not options - {"--help", "--version"} and (group or options)), (page.name, words)
            assert not found or not options - verbs[found] - {"--help", "-h"}, (page.name, words)


def test_the_package_of_readme_is_built_installed_and_answers(tmp_path: Path) -> None:
    """As README has it, but without a network: what builds and what it needs are those of this environment."""
    lines = [line for _, text in BLOCKS.findall((ROOT / "README.md").read_text()) for line in text.splitlines()]
    build, install = (shlex.split(line)[1:] for line in lines if line.startswith("pip "))
    alone = ["--quiet", "--no-index", "--no-deps", "--disable-pip-version-check"]
    _pip(*build[:-1], *alone, "--no-build-isolation", str(ROOT), folder=tmp_path)
    (wheel,) = tmp_path.glob(install[-1])
    _pip("install", *alone, "--target", "installed", str(wheel), folder=tmp_path)
    places = {"PYTHONPATH": str(tmp_path / "installed")}
    command = [sys.executable, "-m", "stillroom", "config", "quickstart", "name"]
    shown = subprocess.run(command, cwd=tmp_path, env=os.environ | places, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0 and "quickstart" in shown.stdout, shown.stderr


def _pip(*words: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
