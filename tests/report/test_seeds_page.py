"""Arms over training seeds, and the map of needles, on the page and in the terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from make_run import SKETCHES, make_run, make_seeds, write
from stillroom.report import build_report, compare_report, seeds_tables
from stillroom.report.arms import arms_over_seeds, baseline_arm, mean_of, paired_with
from stillroom.report.prose import summary
from stillroom.report.view import View, make_view
from stillroom.results.across_seeds import by_seed
from stillroom.results.intervals import holm, paired_interval, paired_t_test
from stillroom.results.measures import BITS_PER_BYTE, FOLLOWS_CONTEXT
from stillroom.results.runs import load
from stillroom.types import UserError


def view_of(*folders: Path) -> View:
    return make_view(tuple(load(folder) for folder in folders))


def section(page: Path, name: str) -> str:
    return page.read_text(encoding="utf-8").split(f'<section id="{name}"')[1].split("</section>")[0]


def test_seeds_of_one_arm_are_taken_together_and_arms_are_paired_by_seed(tmp_path: Path) -> None:
    view = view_of(make_seeds(tmp_path / "run", seeds=(0, 1, 4)))
    spt, dpt = arms_over_seeds(view)
    assert (spt.label, dpt.label) == ("SPT", "DPT-90") and list(dpt.seeds) == [0, 1, 4]
    assert baseline_arm((dpt, spt)) is spt
    assert spt.entry.colour != dpt.entry.colour
    paired = paired_with(spt, dpt, BITS_PER_BYTE)
    assert paired is not None
    expected = [0.72 * (-0.15 + 0.01 * seed) for seed in (0, 1, 4)]  # the luck of a seed, common to both, is gone
    assert paired.differences == pytest.approx(expected)
    assert paired.mean.estimate == paired_interval(paired.differences)
    mean = mean_of(spt, BITS_PER_BYTE)
    assert mean is not None and mean.num == 3
    assert mean.high - mean.low > 5 * (paired.mean.high - paired.mean.low)


def test_seeds_of_one_arm_look_alike_in_every_figure_and_are_named_once(tmp_path: Path) -> None:
    folder = make_seeds(tmp_path / "run")
    view = view_of(folder)
    looks = {(entry.arm, entry.colour, entry.marker, entry.dashed) for entry in view.students}
    assert [look[0] for look in sorted(looks)] == ["DPT-90", "SPT"]
    for arm in arms_over_seeds(view):
        assert {(entry.colour, entry.marker) for entry in arm.seeds.values()} == {(arm.entry.colour, arm.entry.marker)}
    drawn = section(build_report(folder), "fig-passk")
    named = re.findall(r"<li><svg.*?</svg>\s*([^<]+?)\s*</li>", drawn, re.DOTALL)
    assert named == ["teacher", "SPT", "DPT-90"]


def test_the_page_shows_means_differences_and_corrected_p_values(tmp_path: Path) -> None:
    run = make_seeds(tmp_path / "run")
    words = section(build_report(run), "fig-seeds")
    assert "<figure" in words and "minus SPT" in words and "n = 3 pairs" in words.replace("\u00a0", " ")
    assert words.count("dot-of s1") == 3 * len(re.findall(r'class="plot', words))
    differences = [0.72 * (-0.15 + 0.01 * seed) for seed in range(3)]
    row = re.search(r"<tr><th scope=\"row\">DPT-90</th><td>bits per byte</td>(.*?)</tr>", words)
    assert row is not None
    cells = re.findall(r"<td>(.*?)</td>", row[1])
    estimate = paired_interval(differences)
    assert cells[1] == cells[3] == "3" and cells[2].startswith(f"−{-estimate.value:.3f} (−{-estimate.low:.3f} to")
    p_value = paired_t_test(differences)
    assert p_value is not None and p_value < float(cells[4]) <= 1
    assert "over training seeds; they cover another run" in build_report(run).read_text(encoding="utf-8")
    (table,) = seeds_tables([run])
    assert table is not None and table.row_count == words.count("<tr>") - 1
    console = Console(width=200)
    with console.capture() as printed:
        console.print(table)
    assert "minus SPT" in printed.get()


def test_the_summary_speaks_of_arms_and_not_of_every_seed(tmp_path: Path) -> None:
    view = view_of(make_seeds(tmp_path / "run"))
    lead = summary(view)
    words = " ".join((*(one for paragraph in lead.paragraphs for one in paragraph), *lead.details))
    spt, dpt = arms_over_seeds(view)
    paired, mean = paired_with(spt, dpt, BITS_PER_BYTE), mean_of(spt, BITS_PER_BYTE)
    assert paired is not None and mean is not None
    assert f"SPT needs {mean.value:.3f} (" in words and f"DPT-90 is better by {-paired.mean.value:.3f}" in words
    assert "seed 0" not in words and "overlap" not in words
    assert len(words) < 2000


def test_runs_of_one_study_at_several_seeds_are_grouped_by_the_seed_of_the_run(tmp_path: Path) -> None:
    runs = []
    for seed in (0, 1):
        run = make_run(tmp_path / str(seed), "same", seed=seed, sketches=SKETCHES[:3])
        with (run / "config.yaml").open("a") as stream:
            stream.write(f"seed: {seed}\n")
        runs.append(run)
    arms = arms_over_seeds(view_of(*runs))
    assert [arm.label for arm in arms] == ["SPT", "SPT-2x"] and list(arms[0].seeds) == [0, 1]
    assert "SPT-2x" in section(compare_report(runs, tmp_path / "both.html"), "fig-seeds")
    study = json.loads((runs[1] / "study.json").read_text())
    study["models"][1]["alpha"] = 0.5  # another recipe under the same name is not another seed of it
    write(runs[1] / "study.json", study)
    assert [arm.label for arm in arms_over_seeds(view_of(*runs))] == ["SPT-2x"]


def test_without_two_arms_at_two_seeds_the_figure_is_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert arms_over_seeds(view_of(run)) == () and seeds_tables([run]) == []
    assert "fig-seeds" not in build_report(run).read_text()
    lone = make_seeds(tmp_path / "lone", seeds=(0,))
    assert "fig-seeds" not in build_report(lone).read_text()


def test_a_measure_that_some_seeds_lack_is_left_to_those_that_have_it(tmp_path: Path) -> None:
    run = make_seeds(tmp_path / "run", seeds=(0, 1, 2))
    for name, parts in (("spt-s0", ("lm",)), ("dpt90-s1", ("lm", "recall")), ("dpt90-s2", ("recall",))):
        path = run / "models" / name / "evaluation.json"
        values = json.loads(path.read_text())
        write(path, {part: value for part, value in values.items() if part not in parts})
    spt, dpt = arms_over_seeds(view_of(run))
    assert paired_with(spt, dpt, BITS_PER_BYTE) is None  # only seed 2 is common
    words = section(build_report(run), "fig-seeds")
    assert "bits per byte" in words and ">recall<" in words


def test_every_square_of_the_needle_map_is_in_the_picture_and_in_the_table(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    words = section(build_report(run), "fig-needle")
    assert words.count("<svg class=") == 0 and len(re.findall(r'class="plot', words)) == len(SKETCHES)
    grid = json.loads((run / "models" / "spt" / "evaluation.json").read_text())["needle"]["grid"]
    for length, row in zip((64, 128), grid, strict=True):
        for depth, cell in zip(("0", "0.5", "1"), row, strict=True):
            assert f"{length} tokens, depth {depth}: {cell['value']:.2f} (" in words
            assert f'fill-opacity="{cell["value"]:.3f}"' in words
    assert "a guess finds 0.07" in words and "n = 40 a square" in words.replace("\u00a0", " ")
    assert words.count("<tr>") == 1 + 2 * len(SKETCHES)


def test_a_needle_map_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    path = run / "models" / "spt" / "evaluation.json"
    values = json.loads(path.read_text())
    values["needle"]["grid"][0].pop()
    write(path, values)
    with pytest.raises(UserError, match="grid is not 2 lengths of 3 depths"):
        build_report(run)


def test_p_values_are_corrected_over_all_differences(tmp_path: Path) -> None:
    view = view_of(make_seeds(tmp_path / "run"))
    spt, dpt = arms_over_seeds(view)
    paired = paired_with(spt, dpt, BITS_PER_BYTE)
    assert paired is not None
    assert holm([paired.mean.p_value, 0.9])[0] == pytest.approx(min(1.0, 2 * paired.mean.p_value))


def test_the_mean_of_a_share_over_seeds_stays_a_share(tmp_path: Path) -> None:
    run = make_seeds(tmp_path / "run")
    for seed, share in enumerate((0.9, 0.99, 1.0)):
        file = run / f"models/spt-s{seed}/evaluation.json"
        values = json.loads(file.read_text())
        values["counterfactual"]["follows_context"]["value"] = share
        write(file, values)
    arm = arms_over_seeds(view_of(run))[0]
    mean, bits = mean_of(arm, FOLLOWS_CONTEXT), mean_of(arm, BITS_PER_BYTE)
    assert mean is not None and mean.low < 0.9 and mean.high == 1.0
    assert bits is not None and bits.high > 2
    kept = by_seed({f"spt-s{n}": load(run).model(f"spt-s{n}").evaluation for n in range(3)}).arms["spt"].measures
    assert kept["counterfactual follows_context"].mean.high == 1.0
    assert kept["lm bits_per_byte"].mean.high > 2
