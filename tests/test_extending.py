"""The page on adding a part is right: its files, installed as a package beside this one, do what it says they do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from make_run import make_run
from parts_page import BLOCKS, FILES

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
*SECTIONS, _ = re.split(r"^## (?:An? )?", PAGE, flags=re.M)[1:]
HEADINGS = [section.partition("\n")[0] for section in SECTIONS]
CHECKS = [code for kind, code in BLOCKS if kind == "python" and code.startswith("# check")]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the page's package and what installing it would leave."""
    root = tmp_path_factory.mktemp("site")
    metadata = root / "extras-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: extras\nVersion: 1.0\n")
    (root / "extras").mkdir()
    for name, code in FILES.items():
        (root / "extras" / f"{name}.py").write_text(code)
    named = ""
    for kind, code in BLOCKS:
        if kind == "toml":
            groups = tomllib.loads(code)["project"]["entry-points"]
            for group, entries in groups.items():
                named += f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
    (metadata / "entry_points.txt").write_text(named)
    return root


def run(code: str, installed: Path) -> str:
    """What code prints in a process that has the package."""
    prelude = f"import sys; sys.path.insert(0, {str(installed)!r})\n"
    found = subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.parametrize("code", CHECKS, ids=HEADINGS)
def test_the_part_works_from_another_package(code: str, installed: Path) -> None:
    run(code, installed)


def test_the_figure_of_a_suite_stands_on_the_page(installed: Path, tmp_path: Path) -> None:
    """Numbers of the suite in two models of a run are drawn, and it says which models have none."""
    folder = make_run(tmp_path / "run")
    for name, value in (("spt", 3.0), ("dpt90", 2.0)):
        file = folder / "models" / name / "evaluation.json"
        found = json.loads(file.read_text())
        found["echo"] = {"loss": {"value": value, "low": value - 0.5, "high": value + 0.5, "num": 64}, "per_item": {}}
        file.write_text(json.dumps(found))
    run(
        f"from pathlib import Path; from stillroom.report import build_report; build_report(Path({str(folder)!r}))",
        installed,
    )
    page = (folder / "report.html").read_text()
    assert '<a href="#fig-echo">Echo</a>' in page
    assert "loss of an echo in nats: SPT 3.000; DPT-90 2.000." in page
    assert "Not measured for teacher, SPT-2x, DPT-90" in page
    assert "2.000 (1.500 to 2.500)" in page


def test_every_file_of_the_page_is_named_by_an_entry_point_and_every_part_is_checked() -> None:
    named = {name for kind, code in BLOCKS if kind == "toml" for name in re.findall(r"extras\.(\w+):", code)}
    assert named == FILES.keys()
    assert all(section.count("# check\n") == 1 for section in SECTIONS)


RECIPE = """
kind: study
name: theirs
corpus: {sources: {facts: {kind: facts}}, sequence_length: 32, train_tokens: 1024, heldout_tokens: 256, vocab_size: 280}
labels: {codec: first, options: {steps: 9}, shard_sequences: 16}
training: {tokens: 1024}
arms: {kd: {alpha: 0.9}}
"""
LABELLED = """
from pathlib import Path
from stillroom.labels import LabelStore, label
from stillroom.strict import override
from stillroom.study.exactworlds import drawn_sequences, exact_scores
from stillroom.study.identities import labels_identity
from stillroom.study.recipe_files import resolve_recipe
from stillroom.types import UserError

root, world = Path(ROOT), 'world:bigram:{"states": 20}'
recipe = resolve_recipe(str(root / "theirs.yaml"))
for number, one in enumerate((recipe, override(recipe, ["labels.options.steps=7"]))):
    drawn = drawn_sequences(world, 1024, 32, 0)
    owner = {"teacher": "t", "tokenizer": "k", "vocab_size": 20, "corpus": "c"}
    label(exact_scores(world, 20, isolate=False), drawn, one.labels, root / str(number), identity=owner)
    store = LabelStore.open(root / str(number))
    assert list(store.verify()) == [1, 2]
    print(store.manifest.settings.codec, labels_identity(owner, one.labels, 32, True, "fp32"))
try:
    override(recipe, ["labels.options.stepz=7"])
except UserError as error:
    print(error)
"""


def test_a_recipe_names_a_codec_of_another_package_and_its_options(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(RECIPE)
    first, second, refused = run(LABELLED.replace("ROOT", repr(str(tmp_path))), installed).splitlines()
    assert first.startswith("First(steps=9) ") and "'options': {'steps': 9}" in first
    assert second.startswith("First(steps=7) ") and "'options': {'steps': 7}" in second
    assert "labels" in refused and "has 'stepz', which codec first does not know" in refused
