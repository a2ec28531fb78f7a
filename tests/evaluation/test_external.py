"""Evaluation of model folders by what comes from outside a study, side by side, and their comparison."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from stillroom.evaluation.grading.code.jail import why_not
from stillroom.results.across_seeds import by_seed
from stillroom.results.compare import compare_folders
from stillroom.results.json_form import as_json, from_json
from stillroom.results.schema import BySeed, Evaluation
from stillroom.study.evaluation_tables import needle_table, seed_means_table
from stillroom.study.evaluations import evaluate_models
from stillroom.study.external import External, parse_benchmarks
from stillroom.study.progress import StageDisplay
from stillroom.types import UserError

VALUES = {"problems": 4, "samples_per_problem": 4, "ks": (1, 2, 4), "temperatures": (0.7, 1.0)}
FACT = {"context": "Oslo is in Peru.", "question": "Where is Oslo?", "answer": "Peru", "memory_answer": "Norway"}


@pytest.fixture
def models(make_llama, tokenizer, tmp_path: Path) -> list[Path]:
    folders = [tmp_path / "models" / name for name in ("a-s0", "a-s1", "b-s0", "b-s1")]
    for seed, folder in enumerate(folders):
        make_llama(seed=seed + 1).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folders


def test_benchmarks_are_measured_without_a_corpus_and_not_twice(models, tmp_path: Path, capsys) -> None:
    facts = tmp_path / "facts.jsonl"
    facts.write_text(json.dumps(FACT) + "\n")
    external = External(parse_benchmarks(["word-problems"]), facts, limit=2)
    out = tmp_path / "out"
    for _ in range(2):
        evaluate_models(models[:2], None, [], out, VALUES, StageDisplay(), external)
    assert "a-s1" in capsys.readouterr().out
    folders = sorted(path for path in out.iterdir() if path.is_dir())
    assert len(folders) == 2
    for folder in folders:
        part = json.loads((folder / "evaluation.json").read_text())
        assert set(part) == {"measured_on", "benchmarks", "counterfactual_file"}
        assert part["benchmarks"]["word-problems"]["num_problems"] == 2
        assert part["counterfactual_file"]["log_odds"]["num"] == 1
        assert len((folder / "samples-word-problems.jsonl").read_text().splitlines()) == 4
        assert (folder / "suite-benchmarks-word-problems.json").stat().st_mtime_ns < (
            folder / "evaluation.json"
        ).stat().st_mtime_ns
    facts.write_text(json.dumps(FACT | {"answer": "Chile"}) + "\n")
    evaluate_models(models[:1], None, [], out, VALUES, StageDisplay(), external)
    assert len([path for path in out.iterdir() if path.is_dir()]) == 3  # another file is another evaluation


@pytest.mark.skipif(why_not("bubblewrap") is not None and why_not("namespaces") is not None, reason="no sandbox here")
def test_programs_are_written_and_judged(models, tmp_path: Path) -> None:
    external = External(parse_benchmarks(["programs"]), limit=2)
    evaluate_models(models[:1], None, [], tmp_path / "out", VALUES, StageDisplay(), external)
    (file,) = (tmp_path / "out").glob("*/evaluation.json")
    cell = json.loads(file.read_text())["benchmarks"]["programs"]["temperatures"]["1"]
    assert cell["pass_at"]["1"]["value"] == 0.0  # an untrained model writes no program


def test_mistakes_are_one_sentence(models, tmp_path: Path) -> None:
    for asked, said in (
        ("gsm9k=x", "did you mean gsm8k"),
        ("gsm8k", "expected gsm8k=FILE"),
        ("programs=x", "made here"),
    ):
        with pytest.raises(UserError, match=said):
            parse_benchmarks([asked])
    with pytest.raises(UserError, match="asked for twice"):
        parse_benchmarks(["gsm8k=a.jsonl", "gsm8k=b.jsonl"])
    with pytest.raises(UserError, match="--corpus is missing"):
        evaluate_models(models, None, ["lm"], tmp_path, {}, StageDisplay())


def test_the_harness_is_asked_for_where_it_is_not_installed(
    models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stillroom.study import external

    monkeypatch.setattr(external.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="is not installed; pip install"):
        evaluate_models(models[:1], None, [], tmp_path / "o", {}, StageDisplay(), External(lm_eval=("copa",)))


def test_models_are_compared_with_the_first_and_arms_over_their_seeds(tmp_path: Path) -> None:
    rights = {"spt-s0": 1, "spt-s1": 2, "dpt-s0": 3, "dpt-s1": 4}
    folders = {}
    for name, right in rights.items():
        folder = folders[name] = tmp_path / name
        folder.mkdir()
        losses = [float(right + i) for i in range(6)]
        (folder / "evaluation.json").write_text(
            json.dumps({"copying": {"icl_score": ONE, "per_item": {"loss_repeat": losses}}})
        )
        records = [
            {
                "family": "f",
                "prompt": f"p{i}",
                "temperature": heat,
                "completions": [f"{j}" for j in range(8)],
                "answers": ["x"] * (right + i % 3) + [None] * (8 - right - i % 3),
            }
            for i in range(12)
            for heat in (0.6, 1.0)
        ]
        (folder / "samples.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    part = compare_folders(folders, [1, 4])
    assert part.baseline == "spt-s0" and set(part.against) == {"spt-s1", "dpt-s0", "dpt-s1"}
    against = part.against["dpt-s1"]
    assert against.items["copying"]["loss_repeat"].value == 3.0
    assert against.samples.temperature_matched[0.6][1].value == pytest.approx(3 / 8)
    assert [point["temperature"] for point in part.frontier["spt-s0"]] == [0.6, 1.0]
    seeds = part.over_seeds
    assert set(seeds) == {"spt", "dpt"} and seeds["dpt"].num_seeds == 2
    difference = seeds["dpt"].temperatures[1.0][1].difference
    assert difference.value == pytest.approx(2 / 8) and difference.low < 2 / 8 < difference.high
    assert seeds["spt"].temperatures[1.0][1].difference is None
    shutil.rmtree(folders["dpt-s1"])
    del folders["dpt-s1"]
    assert set(compare_folders(folders, [1]).over_seeds) == {"spt"}


ONE = {"value": 0.0, "low": 0.0, "high": 1.0, "num": 4}


def evaluation(loss: float, found: float) -> dict:
    est = {"low": 0.0, "high": 1.0, "num": 4}
    grid = [[est | {"value": found}, est | {"value": found / 2}]]
    return {
        "copying": {"icl_score": ONE, "loss_repeat": est | {"value": loss}},
        "needle": {"accuracy": est | {"value": found}, "lengths": [48], "depths": [0.0, 1.0], "grid": grid},
    }


def test_arms_are_paired_seed_by_seed() -> None:
    luck = {0: 0.0, 1: 5.0, 2: -3.0}  # of a seed, common to both arms
    parts = {f"spt-s{seed}": evaluation(2.0 + more, 0.5) for seed, more in luck.items()}
    parts |= {f"dpt-s{seed}": evaluation(1.0 + more + 0.1 * seed, 0.5) for seed, more in luck.items()}
    parts |= {"dpt-s7": evaluation(100.0, 0.5), "lone": evaluation(0.0, 0.0), "other-s0": evaluation(0.0, 0.0)}
    found = by_seed({name: typed(part) for name, part in parts.items()})
    assert found.baseline == "spt" and set(found.arms) == {"spt", "dpt"}
    assert found.arms["dpt"].seeds == (0, 1, 2, 7)
    cell = found.arms["dpt"].measures["copying loss_repeat"]
    assert cell.difference.value == pytest.approx(-0.9) and cell.difference.num == 3
    half = 4.3026527 * 0.1 / 3**0.5
    assert cell.difference.high == pytest.approx(-0.9 + half) and cell.mean.num == 4
    assert cell.difference.p_holm == pytest.approx(3 * cell.difference.p_value)  # three measures
    assert found.arms["spt"].measures["copying loss_repeat"].difference is None
    alone = {"spt-s0": typed(evaluation(1.0, 1.0)), "dpt-s0": typed(evaluation(1.0, 1.0))}
    assert by_seed(alone) == BySeed() and as_json(BySeed()) == {}
    table = text_of(seed_means_table(found))
    assert "dpt minus spt" in table and "-0.900" in table and "spt, 3 seeds" in table


def typed(part: dict) -> Evaluation:
    return from_json(Evaluation, part, Path("evaluation.json"))


def test_needles_are_a_table_of_lengths_and_depths() -> None:
    table = text_of(needle_table({"one": typed(evaluation(1.0, 0.8)), "without": Evaluation()}))
    assert "depth 0" in table and "depth 1" in table and "without" not in table
    assert [word for word in table.split() if word in {"one", "48", "0.80", "0.40"}] == ["one", "48", "0.80", "0.40"]


def text_of(table: Table) -> str:
    console = Console(width=200)
    with console.capture() as printed:
        console.print(table)
    return printed.get()


def test_the_command_line_asks_for_it(models, tmp_path: Path, capsys) -> None:
    from stillroom.cli.main import run

    arguments = ["evaluate", str(models[0]), "--samples", "16", "--out", str(tmp_path / "out")]
    for more, code in ((["--benchmark", "word-problems", "--limit", "1"], 0), (["--benchmark", "gsm8k"], 2), ([], 2)):
        with pytest.raises(SystemExit) as ended:
            run([*arguments, *more])
        assert ended.value.code == code
    assert (
        "expected gsm8k=FILE" in (said := " ".join(capsys.readouterr().err.split())) and "--corpus is missing" in said
    )
    (file,) = (tmp_path / "out").glob("*/evaluation.json")
    assert json.loads(file.read_text())["benchmarks"]["word-problems"]["num_problems"] == 1
