"""What the page says, from which files, and what happens when one is missing or damaged."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from make_run import SKETCHES, Sketch, make_run, make_seeds, write
from stillroom.report import build_report, compare_report, seeds_tables
from stillroom.results.runs import load, measured_texts
from stillroom.types import UserError

FIGURES = [
    f"fig-{name}"
    for name in (
        "worth",
        "learning",
        "passk",
        "frontier",
        "unique",
        "icl",
        "copying",
        "needle",
        "paired",
        "heads",
        "entropy",
    )
]
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Reader(HTMLParser):
    """Checks that every element is closed, and keeps ids and the text of elements that have one."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.drawings: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if (name := found.get("id")) is not None:
            self.ids.append(name)
        if tag == "svg" and (found.get("class") or "").startswith("plot"):
            self.drawings.append(found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes what is not open"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def page_of(run: Path) -> str:
    return build_report(run).read_text(encoding="utf-8")


def edit(path: Path, change: Callable[[dict], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    write(path, values)


def test_page_holds_every_part_once(run: Path) -> None:
    reader = Reader()
    reader.feed(page_of(run))
    assert reader.open == []
    assert [name for name in reader.ids if name.startswith("fig-") and not name.endswith("-title")] == FIGURES
    assert {"summary", "table", "samples", "run"} <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in reader.drawings)
    assert len(reader.drawings) == 1 + 2 + 2 + 1 + 2 + 4 + 1 + 5 + 3 + 5 + 4


def test_page_is_written_into_the_run_folder_and_leaves_nothing_else(run: Path) -> None:
    before = {path.name for path in run.iterdir()}
    assert build_report(run) == run / "report.html"
    assert {path.name for path in run.iterdir()} - before == {"report.html"}


def test_same_files_give_the_same_bytes(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "elsewhere" / "run")
    first, again, moved = page_of(run), page_of(run), page_of(other)
    assert first == again == moved


def test_nothing_is_loaded_from_elsewhere(run: Path) -> None:
    page = page_of(run)
    assert not re.search(r"(?:https?:)?//[a-z]", page)
    assert not re.search(r"@import|url\(|<iframe|<object|<embed|srcset", page)
    assert re.findall(r'(?:src|href)="([^"#][^"]*)"', page) == ["data:,"]


def test_values_stand_in_the_page_as_they_were_measured(run: Path) -> None:
    page = page_of(run)
    for value in ("2.412", "2.392 to 2.432", "−2.60", "0.279", "L2 H3", "15.7 T", "60 %", "8 min 22 s", "1.05 M"):
        assert value in page, value
    assert "vocab_size: 2048" in page and "stillroom study config.yaml" in page


def test_text_from_files_is_escaped(tmp_path: Path) -> None:
    hostile = dataclasses.replace(SKETCHES[1], label="<script>alert(1)</script> & co")
    run = make_run(tmp_path / "run", name="<b>bold</b>", sketches=(SKETCHES[0], hostile))
    page = page_of(run)
    assert "<script>alert" not in page and "<b>bold" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in page


@pytest.mark.parametrize(
    ("suite", "left_out"),
    [
        ("lm", ()),
        ("copying", ("fig-copying",)),
        ("heads", ("fig-heads",)),
        ("needle", ("fig-needle",)),
        ("tts", ("fig-passk", "fig-frontier", "fig-unique", "samples")),
    ],
)
def test_what_a_run_lacks_is_left_out_and_figures_are_numbered_without_gaps(
    run: Path, suite: str, left_out: tuple[str, ...]
) -> None:
    for sketch in SKETCHES:
        edit(run / "models" / sketch.name / "evaluation.json", lambda values: values.pop(suite))
        if suite == "tts":
            (run / "models" / sketch.name / "samples.jsonl").unlink()
    page = page_of(run)
    for name in [*FIGURES, "samples"]:
        is_there = name not in left_out
        assert (f'<section id="{name}"' in page) == (f'href="#{name}"' in page) == is_there
    head = page.split('class="summary">')[1].split("</thead>")[0]
    columns = {"lm": "bits per byte", "copying": "ICL score", "heads": "best induction head", "tts": "pass@1"}
    assert [title in head for title in columns.values()] == [name != suite for name in columns]
    numbers = [int(found) for found in re.findall(r"<b>Figure (\d+)\.</b>", page)]
    assert numbers == list(range(1, len(set(FIGURES) - set(left_out)) + 1))


def test_no_suite_at_all(run: Path) -> None:
    for sketch in SKETCHES:
        write(run / "models" / sketch.name / "evaluation.json", {})
    page = page_of(run)
    assert "No student was evaluated" in page
    assert re.findall(r'<section id="(fig-\w+)"', page) == ["fig-worth", "fig-learning", "fig-paired", "fig-entropy"]


def test_model_without_a_suite_is_named(run: Path) -> None:
    edit(run / "models" / "dpt90" / "evaluation.json", lambda values: values.pop("heads"))
    section = page_of(run).split('<section id="fig-heads"')[1].split("</section>")[0]
    assert "Not measured for DPT-90." in section


def test_layout_without_copying_scores(run: Path) -> None:
    edit(run / "models" / "spt" / "evaluation.json", lambda values: values["heads"].update(copying=None))
    assert "<figure" in page_of(run).split('<section id="fig-heads"')[1].split("</section>")[0]


def test_study_without_labels_needs_no_profile(run: Path) -> None:
    (run / "labels" / "profile.json").unlink()
    edit(run / "study.json", lambda values: values.update(labels=None))
    assert "fig-entropy" not in page_of(run)


def test_pretrained_teacher_has_no_learning_curve(run: Path) -> None:
    (run / "models" / "teacher" / "metrics.jsonl").unlink()
    section = page_of(run).split('<section id="fig-learning"')[1].split("</section>")[0]
    assert "Not measured for teacher." in section


def test_single_student_and_single_temperature(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", sketches=SKETCHES[1:2])
    path = run / "models" / "spt" / "evaluation.json"
    edit(path, lambda values: values["tts"]["temperatures"].pop("0.6"))
    page = page_of(run)
    assert "is compared with" not in page and "SPT needs 2.412" in page


def test_all_values_equal_and_zero(run: Path) -> None:
    def flatten(values: dict) -> None:
        for drawn in values["tts"]["temperatures"].values():
            for est in (*drawn["pass_at"].values(), drawn["unique_correct"]):
                est.update(value=0.0, low=0.0, high=0.0)

    for sketch in SKETCHES:
        edit(run / "models" / sketch.name / "evaluation.json", flatten)
    (run / "comparison.json").unlink()
    page = page_of(run)
    assert "cannot be compared, since all items came out alike" in page
    assert "−0.0" not in page.split('<section id="fig-unique"')[1].split("</section>")[0]


def test_diverged_run_is_drawn_without_its_infinite_values(run: Path) -> None:
    with (run / "models" / "spt" / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "validation", "step": 9999, "tokens": 9999999, "ce": NaN}\n')
        stream.write('{"kind": "validation", "step": 99999, "tok')  # a killed writer
    edit(
        run / "models" / "spt" / "evaluation.json",
        lambda values: values["lm"]["bits_per_byte"].update(value=float("nan")),
    )
    page = page_of(run)
    drawn = " ".join(re.findall(r"<svg.*?</svg>", page, re.S))
    assert not re.search(r'="[^"]*\b(?:nan|inf)\b', drawn)


def test_control_characters_in_completions_are_made_visible(run: Path) -> None:
    path = run / "models" / "spt" / "samples.jsonl"
    record = json.loads(path.read_text().splitlines()[1])
    record["completions"][0] = "a\x00b\x1b[31m\ud800"
    path.write_text(json.dumps(record) + "\n")
    page = page_of(run)
    assert "a␀b␛[31m" in page and "\x00" not in page and "\x1b" not in page


REQUIRED = (
    "study.json",
    "config.yaml",
    "environment.json",
    "labels/profile.json",
    "models/spt/evaluation.json",
    "models/spt/metrics.jsonl",
    "models/dpt90/samples.jsonl",
)


@pytest.mark.parametrize("name", REQUIRED)
def test_missing_file_is_named(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(UserError, match=re.escape(str(run))) as error:
        build_report(run)
    assert Path(name).name in str(error.value)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((name, b"\xff\xfe\x00bad") for name in REQUIRED),
        *((name, text) for name in REQUIRED if name != "config.yaml" for text in (b"[1, 2\n3]", b"[1]\n[2]\n")),
    ],
)
def test_damaged_file_is_named(run: Path, name: str, content: bytes) -> None:
    (run / name).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(run / name))):
        build_report(run)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("study.json", lambda v: v["models"][1].update(role="pupil"), "models.1.role"),
        ("study.json", lambda v: v.update(models=[]), "no models"),
        ("models/spt/evaluation.json", lambda v: v["lm"]["bits_per_byte"].pop("low"), "lm.bits_per_byte.low"),
        ("models/spt/evaluation.json", lambda v: v["heads"]["copying"].pop(), "copying is not 4 layers of 4 heads"),
        ("labels/profile.json", lambda v: v["by_source"]["facts"]["counts"].pop(), "facts has 29 counts for 30 bins"),
    ],
)
def test_field_that_does_not_fit_is_named(run: Path, name: str, change: Callable[[dict], object], words: str) -> None:
    edit(run / name, change)
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        build_report(run)
    assert str(run / name) in str(caught.value)


def test_metric_that_is_no_number_is_named(run: Path) -> None:
    path = run / "models" / "spt" / "metrics.jsonl"
    path.write_text('{"kind": "validation", "tokens": 5, "ce": "low"}\n')
    with pytest.raises(UserError, match="not a number"):
        build_report(run)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        build_report(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no run folder was given"):
        compare_report([], tmp_path / "out.html")


def test_comparison_names_every_model_with_its_run(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", "first"), make_run(tmp_path / "b", "second", seed=1)]
    out = compare_report(runs, tmp_path / "deep" / "both.html")
    page = out.read_text(encoding="utf-8")
    assert out == tmp_path / "deep" / "both.html"
    for name in ("first: SPT", "second: SPT", "first: teacher", "second: DPT-90", "first: facts", "second: facts"):
        assert name in page, name
    assert page.count("Configuration (") == 2
    assert page.count("Each student is compared with SPT;") == 2


def test_comparison_of_runs_of_the_same_study(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", seed=0), make_run(tmp_path / "b", seed=1), make_run(tmp_path / "c", seed=1)]
    page = compare_report(runs, tmp_path / "all.html").read_text(encoding="utf-8")
    for name in ("made-up abcdef12: SPT", "made-up abcdef13 #2: SPT", "made-up abcdef13 #3: SPT"):
        assert name in page, name


def test_runs_of_one_student_each_are_compared_across(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / sketch.name, sketch.name, sketches=(sketch,)) for sketch in SKETCHES[1:4]]
    page = compare_report(runs, tmp_path / "all.html").read_text(encoding="utf-8")
    assert "Each student is compared with spt: SPT;" in page
    assert "dpt90: DPT-90 (2.304) are better" in page


def test_arms_whose_labels_are_alike_are_told_apart_by_name(tmp_path: Path) -> None:
    sketches = (Sketch("spt", "SPT"), Sketch("stored", "DPT-90", alpha=0.9), Sketch("live", "DPT-90", alpha=0.9))
    page = page_of(make_run(tmp_path / "run", sketches=sketches)).replace("\u00a0", " ")
    legend = page.split('class="legend"')[1].split("</ul>")[0]
    assert "DPT-90 (stored)</li>" in legend and "DPT-90 (live)</li>" in legend and "SPT</li>" in legend


def test_many_models_keep_apart_by_dashes(tmp_path: Path) -> None:
    sketches = tuple(Sketch(f"m{place}", f"model {place}", loss=3 + place / 10) for place in range(12))
    page = page_of(make_run(tmp_path / "run", sketches=sketches))
    legend = page.split('class="legend"')[1].split("</ul>")[0]
    signs = re.findall(r"<li>(.*?)model \d+</li>", legend.replace("\u00a0", " "), re.S)
    assert len(signs) == 12 and len(set(signs)) == 12


def test_report_imports_without_torch() -> None:
    code = "import sys, stillroom.report; sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_differences_are_drawn_against_the_baseline_with_their_p_values(run: Path) -> None:
    section = page_of(run).split('<section id="fig-paired"')[1].split("</section>")[0]
    baseline = next(sketch for sketch in SKETCHES if sketch.role == "student")
    assert f"minus {baseline.label}" in section and "p = 0.004" in section and "p = 0.250" in section
    titles = re.findall(r"<h3[^>]*>([^<]*)</h3>|aria-label=\"([^\"]*)\"", section)
    assert {"ICL score", "pass@1 at temperature 1", "pass@16 at temperature 1"} <= {a or b for a, b in titles}
    assert "equal answer entropy" not in "".join(a or b for a, b in titles)  # the two sweeps had none in common
    (run / "comparison.json").unlink()
    assert "fig-paired" not in page_of(run)


def _measured_on(run: Path, text: str, tokenizer: str) -> Path:
    for file in run.glob("models/*/evaluation.json"):
        on = {"measured_on": {"text": text, "tokenizer": tokenizer}}
        file.write_text(json.dumps(json.loads(file.read_text()) | on))
    return run


TWO = [("the same", "t", "a", True), ("another tokenizer", "t", "b", False), ("another text", "u", "a", False)]


@pytest.mark.parametrize(("text", "tokenizer", "together"), [case[1:] for case in TWO], ids=[case[0] for case in TWO])
def test_runs_that_were_not_measured_on_the_same_have_tables_and_figures_of_their_own(
    tmp_path: Path, text: str, tokenizer: str, together: bool
) -> None:
    """Nothing is called best, better or worse across them, and no drawing holds both."""
    one = _measured_on(make_run(tmp_path / "one", "first", 1), "t", "a")
    other = _measured_on(make_run(tmp_path / "other", "second", 2), text, tokenizer)
    page = compare_report([one, other], tmp_path / "report.html").read_text()
    shown = page.split("<main>")[1].split('<section id="samples"')[0]
    drawings = re.findall(r"<svg.*?</svg>", shown, re.DOTALL)
    tables = re.findall(r"<table.*?</table>", shown, re.DOTALL)
    mixed = [part for part in [*drawings, *tables] if "first: " in part and "second: " in part]
    assert bool(mixed) == together
    assert ("nothing is compared between first and second" in page) != together
    ids = re.findall(r'<section id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and ("fig-learning-2" in ids) != together
    rows = [table for table in tables if 'class="summary"' in table]
    assert len(rows) == (1 if together else 2)
    assert shown.count('class="best"') >= (0 if together else 2)  # the best of each group
    lead = page.split('id="summary">')[1].split("</div>")[0]
    for paragraph in re.findall(r"<p>(.*?)</p>", lead, re.DOTALL):
        judged = re.sub(r"^(first|second)\. ", "", paragraph)
        assert together or "nothing is compared" in judged or not ("first: " in judged and "second: " in judged)


def test_runs_of_older_versions_are_told_apart_by_the_corpora_that_they_ask_for(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, name, seed) for seed, name in enumerate(("first", "second", "third"))]
    texts = measured_texts([load(folder) for folder in folders])
    assert len(set(texts)) == 1
    config = folders[2] / "config.yaml"
    config.write_text(config.read_text().replace("train_tokens: 2000000", "train_tokens: 9000000"))
    assert len(set(measured_texts([load(folder) for folder in folders]))) == 1  # more of the same text
    config.write_text(config.read_text().replace("vocab_size: 2048", "vocab_size: 4096"))
    _measured_on(folders[0], "t", "a")  # which the others do not say
    found = measured_texts([load(folder) for folder in folders])
    assert found[0] == found[1] != found[2]
    page = compare_report(folders, tmp_path / "report.html").read_text()
    assert "nothing is compared between (first, second) and third" in page


def test_arms_over_seeds_are_those_of_one_text(tmp_path: Path) -> None:
    folders = [_measured_on(make_seeds(tmp_path / name), name, "a") for name in ("t", "u")]
    tables = seeds_tables(folders)
    assert len(tables) == 2 and all(table.title is not None and ": " in str(table.title) for table in tables)
    assert len(seeds_tables([_measured_on(make_seeds(tmp_path / "v"), "t", "a"), folders[0]])) == 1
