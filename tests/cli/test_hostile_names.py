"""A study whose folder, arms and texts hold markup, tags and quotes runs to its end and is shown as what it is."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from stillroom.cli import main
from stillroom.config import SourceConfig, StudyConfig, to_yaml
from stillroom.study.recipe_files import resolve_recipe

ARMS = {"[bold]spt": 0.0, "<img src=x onerror=alert(1)>'\"&": 0.9}
OUT = Path("runs [v2]") / "[exp]"


class Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def is_safe(page: Path) -> bool:
    """No tag that a name brought in, no handler, no address, and a policy that lets nothing else run."""
    tags = Tags()
    tags.feed(page.read_text(encoding="utf-8"))
    policy = [one.get("content") or "" for tag, one in tags.found if tag == "meta" and "http-equiv" in one]
    names = {name for _, attributes in tags.found for name in attributes}
    return (
        len(policy) == 1
        and "default-src 'none'" in policy[0]
        and not any(tag in ("img", "iframe", "object", "embed") for tag, _ in tags.found)
        and all((found.get("href") or "#").startswith(("#", "data:")) for _, found in tags.found)
        and not any(name.startswith("on") or name in ("src", "srcset") for name in names)
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the study has been run by the command."""
    folder = tmp_path_factory.mktemp("work")
    config = resolve_recipe(str(Path(__file__).parents[1] / "micro.py"))
    assert isinstance(config, StudyConfig)
    sources = {"[i]<b>": SourceConfig(kind="facts"), "p": SourceConfig(kind="problems")}
    values = config.canonical() | {"name": "[red]x", "arms": {name: {"alpha": alpha} for name, alpha in ARMS.items()}}
    values["corpus"] |= {"sources": {name: source.canonical() for name, source in sources.items()}}
    values["evaluation"] |= {"suites": ["lm", "tts"]}
    (folder / "config.yaml").write_text(to_yaml(StudyConfig.model_validate(values), "study"))
    return folder


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main.run(arguments)
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    assert "\x1b" not in out + err
    return out + err


@pytest.mark.slow
def test_every_verb_shows_such_names_as_they_are(work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "200")
    assert "'[bold]spt':" in run(["study", "config.yaml", "--dry-run"], capsys)
    printed = run(["study", "config.yaml", "--out", str(OUT)], capsys)
    assert f"Report: {OUT}/report.html" in printed
    assert all(f"✓ {name} " in printed and f"✓ evaluate {name} " in printed for name in ARMS)
    assert is_safe(OUT / "report.html")

    assert f"Report: {OUT}/report.html" in run(["report", str(OUT)], capsys)
    assert "Report: [a] [b].html" in run(["report", str(OUT), str(OUT), "--out", "[a] [b].html"], capsys)
    assert is_safe(Path("[a] [b].html"))

    artifacts = OUT.parent / "artifacts"
    corpus = next(artifacts.glob("corpus-*")) / "corpus"
    models = sorted(path / "model" for path in artifacts.glob("model-*"))
    assert "from [i]<b>" in run(["inspect", str(corpus)], capsys)

    labels = run(["label", str(models[0]), "--corpus", str(corpus), "--out", "[/x] labels", "--tokens", "512"], capsys)
    assert "bytes each: [/x] labels" in labels
    run(["inspect", "[/x] labels"], capsys)

    other = Path("<img src=x onerror=alert(1)>")
    other.symlink_to(models[0].absolute())
    options = ["--against", str(other), "--corpus", str(corpus), "--html", "[p].html", "--no-ablation"]
    shown = run(["inspect", str(models[1]), *options, "--text", "a [/i] <b>\x1b[2J"], capsys)
    assert "Pictures: [p].html" in shown and f"Where {other} does better" in shown
    assert is_safe(Path("[p].html"))

    evaluated = ["evaluate", str(other), "--corpus", str(corpus), "--suite", "lm", "--out", "[/e]"]
    assert "[/e]/<img src=x onerror=alert(1)>-" in run(evaluated, capsys)

    trained = ["train", "config.yaml", "--arm", "[bold]spt", "--artifacts", str(artifacts), "--export", "[/red] model"]
    with pytest.raises(SystemExit):
        main.run([*trained[:-1], "[/red]/\x00"])
    capsys.readouterr()
    assert "Model: [red] model" in run([*trained[:-1], "[red] model"], capsys)
