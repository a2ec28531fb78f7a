"""Ranking teachers whose right order is known, the numbers against float64 sums, resuming, and what is refused."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from ranked import SHAPE, save, trained, uniform
from stillroom.choosing import RankRequest, RankSettings, prepare_ranking, rank_teachers, ranking_table
from stillroom.choosing.advice import recommend
from stillroom.choosing.comparing import agreement, jensen_shannon, order_by_loss, shared_low_entropy
from stillroom.choosing.measure import Loaded, induction_state
from stillroom.choosing.positions import HeldOut, Positions, read_positions
from stillroom.choosing.request import layout_of
from stillroom.config import StudyConfig
from stillroom.corpora import Corpus, train_tokenizer
from stillroom.models import build_model, export_model, hidden_states, load_model
from stillroom.results.ranking_file import Ranking, TeacherRecord
from stillroom.results_versions import RESULTS_VERSIONS
from stillroom.study.interrupts import Stopper
from stillroom.study.progress import StageDisplay
from stillroom.types import Estimate, UserError
from student_table import KINDS

SETTINGS = RankSettings(
    heldout_sequences=48, copying_sequences=4, copying_period=8, copying_repeats=3,
    problems=4, samples_per_problem=2, max_new_tokens=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("teachers")
    return {
        "nothing": uniform(tiny_corpus, root / "nothing"),
        "short": trained(tiny_corpus, root / "short", root / "w1", steps=4),
        "long": trained(tiny_corpus, root / "long", root / "w2", steps=60),
        "boastful": trained(tiny_corpus, root / "boastful", root / "w3", steps=60, sharpen=3.0),
    }


def request(folders: list[Path], corpus: Corpus, out: Path, settings: RankSettings = SETTINGS) -> RankRequest:
    return RankRequest([str(folder) for folder in folders], corpus.folder, None, out, settings)


@pytest.fixture(scope="module")
def ranking(folders, tiny_corpus, tmp_path_factory) -> Ranking:
    out = tmp_path_factory.mktemp("ranking")
    return rank_teachers(prepare_ranking(request(list(folders.values()), tiny_corpus, out)), StageDisplay())


def by_name(ranking: Ranking, name: str) -> TeacherRecord:
    return next(teacher for teacher in ranking.teachers if teacher.name == name)


def test_the_longer_trained_teacher_is_first_and_the_ignorant_one_last(ranking):
    order = ranking.teacher_loss.order
    assert order.index("long") < order.index("short") < order.index("nothing")
    assert order[0] == "long" and ranking.recommendation.teachers == ("long",)
    assert not any(found.tie for found in ranking.teacher_loss.differences)


def test_a_teacher_that_knows_nothing_has_the_numbers_of_a_uniform_one(ranking, tiny_corpus):
    nothing, nats = by_name(ranking, "nothing"), math.log(tiny_corpus.vocab_size)
    assert nothing.ce.value == pytest.approx(nats, abs=1e-5)
    assert nothing.entropy.mean.value == pytest.approx(nats, abs=1e-5)
    assert nothing.leak.shared.value == pytest.approx(1 - 1 / tiny_corpus.vocab_size, abs=1e-6)
    assert nothing.copyable.gold_probability.value == pytest.approx(1 / tiny_corpus.vocab_size, abs=1e-6)
    assert nothing.looking_back.induction == "not begun"


def test_sharpened_logits_are_overconfident_and_badly_calibrated(ranking):
    honest, boastful = by_name(ranking, "long"), by_name(ranking, "boastful")
    assert boastful.overconfidence_nats.low > honest.overconfidence_nats.high
    assert boastful.calibration.ece.value > 2 * honest.calibration.ece.value
    same = ranking.agreement
    first, second = same.names.index("long"), same.names.index("boastful")
    assert same.same_first_choice[first][second] > 0.999
    assert same.jensen_shannon_nats[first][second] > 0.01


def test_every_number_is_that_of_a_float64_sum(folders, ranking, tiny_corpus):
    """Loss, entropy, gold probability on copyable positions and leak, written out position by position."""
    batch = tiny_corpus.heldout.batch(range(48))
    logprobs, entropies = {}, []
    for name, folder in folders.items():
        model = load_model(folder)
        with torch.no_grad():
            hidden = hidden_states(model, batch).double()
            logits = hidden @ model.get_output_embeddings().weight.double().T
        logprobs[name] = logits.log_softmax(-1).numpy()
        entropies.append(-(np.exp(logprobs[name]) * logprobs[name]).sum(-1))
    entropy, targets, tokens = np.mean(entropies, axis=0), batch.targets_BT.numpy(), batch.tokens_BT.numpy()
    leak, nats, copied = [], [], []
    for row in range(48):
        places = [place for place in range(targets.shape[1]) if targets[row, place] >= 0]
        gold = {place: logprobs["long"][row, place, targets[row, place]] for place in places}
        nats += [-gold[place] for place in places]
        surest = sorted(places, key=lambda place, row=row: np.float32(entropy[row, place]))
        leak += [1 - math.exp(gold[place]) for place in surest[: round(0.15 * len(places))]]
        for place in places:
            document = batch.document_BT[row]
            before = [
                t for t in range(place) if tokens[row, t] == tokens[row, place] and document[t] == document[place]
            ]
            if before and tokens[row, before[-1] + 1] == targets[row, place]:
                copied.append(math.exp(gold[place]))
    long = by_name(ranking, "long")
    assert long.ce.value == pytest.approx(np.mean(nats), abs=1e-5)
    assert long.leak.shared.value == pytest.approx(np.mean(leak), abs=2e-4)
    assert long.copyable.gold_probability.value == pytest.approx(np.mean(copied), abs=1e-5)
    assert long.copyable.share == pytest.approx(len(copied) / len(nats))


def test_the_same_call_again_measures_nothing_and_gives_the_same_numbers(folders, tiny_corpus, tmp_path, monkeypatch):
    settings = SETTINGS.model_copy(update={"problems": 0})
    prepared = prepare_ranking(request([folders["short"]], tiny_corpus, tmp_path, settings))
    first = rank_teachers(prepared, StageDisplay())
    lost = next(tmp_path.glob("teachers/*/looking-back.json"))
    lost.unlink()
    loads = []
    monkeypatch.setattr("stillroom.choosing.measure.load_here", lambda path: loads.append(path) or load_model(path))
    assert rank_teachers(prepared, StageDisplay()) == first
    assert len(loads) == 1  # for the part that was missing alone
    assert rank_teachers(prepared, StageDisplay()) == first
    assert len(loads) == 1
    assert first.recommendation.sentences[0].startswith("short is the only candidate")


@pytest.mark.parametrize("stage", ["ranking", "model"])
def test_folders_of_another_results_version_are_named_and_kept(folders, tiny_corpus, tmp_path, monkeypatch, stage):
    settings = SETTINGS.model_copy(update={"problems": 0, "heldout_sequences": 8, "proxy_tokens": 1024})
    asked = RankRequest([str(folders["short"])], tiny_corpus.folder, str(folders["long"]), tmp_path, settings)
    prepared, shown = prepare_ranking(asked), io.StringIO()
    first = rank_teachers(prepared, StageDisplay())
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.npz")}
    monkeypatch.setitem(RESULTS_VERSIONS, stage, 2)
    display = StageDisplay(Console(file=shown, width=1000))
    assert rank_teachers(prepared, display).teacher_loss == first.teacher_loss
    said = [one for one in shown.getvalue().splitlines() if "made by results version 1, this is 2; kept" in one]
    assert len(said) == 2  # teacher and student, or proxies of hard labels and of the teacher
    assert all(file.read_bytes() == content for file, content in before.items())
    assert len(list(tmp_path.rglob("*.npz"))) == len(before) + {"ranking": 3, "model": 2}[stage]
    shown.truncate(0)
    rank_teachers(prepared, display)
    assert "results version" not in shown.getvalue()  # this version's are there now


def test_proxy_students_decide_where_they_are_asked_for(folders, tiny_corpus, tmp_path):
    settings = SETTINGS.model_copy(update={"problems": 0, "proxy_tokens": 8192})
    asked = RankRequest(
        [str(folders["long"]), str(folders["nothing"])], tiny_corpus.folder, str(folders["short"]), tmp_path, settings
    )
    found = rank_teachers(prepare_ranking(asked), StageDisplay())
    proxies = found.proxies
    assert proxies is not None and proxies.order == ("long", "nothing")
    assert proxies.against_hard_labels["nothing"].low > 0  # labels that say nothing cost a student
    assert found.recommendation.basis == "held-out loss of proxy students"
    long = by_name(found, "long").capacity
    assert long.side == "below" and long.value < 1
    assert "8,192 tokens" in found.recommendation.sentences[-1]
    ranking_table(found)


def test_a_stopped_proxy_goes_on_and_ends_where_an_unstopped_one_does(folders, tiny_corpus, tmp_path, monkeypatch):
    settings = SETTINGS.model_copy(update={"problems": 0, "proxy_tokens": 16_384})
    whole = prepare_ranking(
        RankRequest([str(folders["long"])], tiny_corpus.folder, str(folders["short"]), tmp_path / "a", settings)
    )
    expected = rank_teachers(whole, StageDisplay()).proxies.ce
    calls = []

    def asked(stopper: Stopper) -> bool:
        calls.append(1)
        return len(calls) == 3

    again = replace(whole, out=tmp_path / "b")
    monkeypatch.setattr(Stopper, "asked", asked)
    with pytest.raises(KeyboardInterrupt):
        rank_teachers(again, StageDisplay())
    assert not (tmp_path / "b" / "ranking.json").exists()
    assert list((tmp_path / "b").rglob("checkpoints"))
    assert rank_teachers(again, StageDisplay()).proxies.ce == expected


def test_a_proxy_that_cannot_be_trained_is_refused_at_once(folders, tiny_corpus, tmp_path):
    settings = SETTINGS.model_copy(update={"proxy_tokens": 10**9})
    with pytest.raises(UserError, match="training tokens"):
        prepare_ranking(request([folders["long"]], tiny_corpus, tmp_path / "out", settings))
    assert not (tmp_path / "out").exists()


def test_ties_are_called_ties():
    rng = np.random.default_rng(0)
    items = np.repeat(np.arange(60), 20)

    class Fake(HeldOut):
        item_N = items
        strata_I = np.zeros(60, np.int64)
        num_items = 60

    base = rng.exponential(2.0, len(items))
    noise = rng.normal(0, 0.5, (60,))[items]
    nats = {"a": base, "b": base + noise - noise.mean(), "c": base + 0.5}
    found = order_by_loss(nats, Fake(None, 60))  # type: ignore[arg-type]
    ties = {row.name: row.tie for row in found.differences}
    assert found.order[-1] == "c" and ties["c"] is False
    assert ties[found.order[1]] is True
    assert found.level == pytest.approx(0.975)
    assert found.differences[-1].nats.value == pytest.approx(0.5, abs=0.02)


def test_divergence_of_known_distributions():
    same = np.log(np.array([[0.5, 0.5]], np.float32))
    assert jensen_shannon(same, same) == 0.0
    apart = jensen_shannon(np.log(np.array([[1 - 1e-7, 1e-7]])), np.log(np.array([[1e-7, 1 - 1e-7]])))
    assert apart == pytest.approx(math.log(2), abs=1e-5)
    p, q = np.array([0.7, 0.3]), np.array([0.4, 0.6])
    m = (p + q) / 2
    expected = 0.5 * (p * np.log(p / m)).sum() + 0.5 * (q * np.log(q / m)).sum()
    assert jensen_shannon(np.log(p)[None], np.log(q)[None]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [(0.95, 0.99, "finished"), (0.6, 0.7, "begun"), (0.85, 0.95, "begun"), (0, 0.1, "not begun")],
)
def test_induction_is_finished_begun_or_not(low, high, state):
    assert induction_state(Estimate((low + high) / 2, low, high, 1)) == state


def test_the_advice_names_ties_and_the_cheapest_of_them(ranking):
    tied = tuple(replace(found, tie=found.name == "short") for found in ranking.teacher_loss.differences)
    cheap = {"short": replace(by_name(ranking, "short").cost, flops=1.0)}
    teachers = tuple(replace(one, cost=cheap.get(one.name, one.cost)) for one in ranking.teachers)
    loss = replace(ranking.teacher_loss, differences=tied)
    advice = recommend(replace(ranking, teachers=teachers, teacher_loss=loss))
    assert advice.teachers == ("long", "short")
    assert advice.sentences[0].startswith("A tie: long and short cannot be told apart")
    assert any("short labels for the fewest FLOPs" in sentence for sentence in advice.sentences)
    assert any("under way" in s or "not begun" in s for s in advice.sentences)


def test_another_tokenizer_is_refused_in_one_sentence(tiny_corpus, folders, tmp_path):
    model = build_model(SHAPE, 280, 0)
    model.save_pretrained(tmp_path / "other")
    train_tokenizer(["some other words entirely " * 20], 280).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match=r"its tokenizer .* differs from the corpus") as error:
        prepare_ranking(request([folders["long"], tmp_path / "other"], tiny_corpus, tmp_path / "out"))
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_a_model_is_named_once(folders, tiny_corpus, tmp_path):
    with pytest.raises(UserError, match="the same model"):
        prepare_ranking(request([folders["long"], folders["long"]], tiny_corpus, tmp_path))
    with pytest.raises(UserError, match=r"holds no config\.json"):
        prepare_ranking(request([tmp_path / "nowhere" / ".."], tiny_corpus, tmp_path))


def test_positions_survive_their_file(folders, tiny_corpus, tmp_path):
    heldout = HeldOut(tiny_corpus, 8)
    found = read_positions(load_model(folders["short"]), heldout)
    found.save(tmp_path / "positions.npz")
    again = Positions.load(tmp_path / "positions.npz")
    assert (again.gold_logprob_N == found.gold_logprob_N).all()
    assert again.logprob_PV.shape == (len(heldout.sampled_P), tiny_corpus.vocab_size)
    assert np.allclose(np.exp(again.logprob_PV).sum(1), 1, atol=1e-4)
    shared = shared_low_entropy({"a": found}, heldout, 0.15)
    assert 0.1 < shared.mean() < 0.2
    assert agreement({"a": found, "b": again}).same_first_choice == ((1.0, 1.0), (1.0, 1.0))
    assert Loaded(str(folders["short"]))() is not None


@pytest.fixture(scope="module")
def run(tmp_path_factory, micro_recipe) -> tuple[Path, StudyConfig]:
    """A study of two arms, measured on its text alone, and its configuration."""
    from stillroom.study import resolve_recipe
    from stillroom.study.pipeline import run_study

    config = resolve_recipe(str(micro_recipe))
    assert isinstance(config, StudyConfig)
    arms = {name: config.arms[name] for name in ("spt", "dpt90")}
    evaluation = config.evaluation.model_copy(update={"suites": ("lm",)})
    small = config.model_copy(update={"arms": arms, "evaluation": evaluation})
    return run_study(small, tmp_path_factory.mktemp("studied") / "run", None, StageDisplay()), small


def test_a_run_s_models_are_found_from_its_folder(run, tmp_path):
    run, config = run
    prepared = prepare_ranking(RankRequest([str(run)], run, None, tmp_path / "out", SETTINGS))
    assert [teacher.name for teacher in prepared.teachers] == ["teacher", "spt", "dpt90"]
    assert prepared.student.reference is not None and prepared.student.reference.name == "student spt"
    assert prepared.student.model == config.student
    one = prepare_ranking(RankRequest([f"{run}:dpt90"], run, None, tmp_path / "out", SETTINGS))
    assert one.teachers[0].parameters == prepared.teachers[2].parameters < prepared.teachers[0].parameters
    with pytest.raises(UserError, match="no model 'dtp90'; did you mean dpt90"):
        prepare_ranking(RankRequest([f"{run}:dtp90"], run, None, tmp_path / "out", SETTINGS))


def test_a_mixture_is_another_teacher_and_serves_stored_and_live(run):
    run, config = run
    mixed = _mixed_study(config, run, run.parent)
    stores = [json.loads(path.read_text()) for path in run.parent.glob("artifacts/labels-*/labels/manifest.json")]
    assert len({store["identity"]["teacher"] for store in stores}) == 2
    assert {"stored", "live"} <= {path.name for path in (mixed / "models").iterdir()}


def _mixed_study(config: StudyConfig, run: Path, root: Path) -> Path:
    """The same study with its teacher's labels averaged with those of another arm, stored and live."""
    from stillroom.config import parse
    from stillroom.places import find_part
    from stillroom.study.pipeline import run_study

    values = config.model_dump()
    values["teacher"]["mixture"] = {"teachers": {"spt": find_part("model", f"{run}:spt").path}, "weights": {"spt": 0.5}}
    values["arms"] = {"stored": {"alpha": 0.9}, "live": {"alpha": 0.9, "teacher": "live"}}
    return run_study(parse(StudyConfig, values, "mixed"), root / "mixed", None, StageDisplay())


def test_save_is_what_the_command_reads(tiny_corpus, tmp_path):
    folder = save(build_model(SHAPE, tiny_corpus.vocab_size, 3), tiny_corpus, tmp_path / "fresh")
    candidate = prepare_ranking(request([folder], tiny_corpus, tmp_path / "out")).teachers[0]
    model = load_model(folder)
    assert candidate.parameters == sum(parameter.numel() for parameter in model.parameters())
    norms = (2 * 2 + 1) * 32
    matrices = candidate.parameters - norms + 2 * 2 * 32 * 32  # tied: counted once; attention over T/2 = 32 positions
    assert candidate.forward_flops == 2.0 * matrices


def test_proxies_take_the_layout_of_a_student_of_any_architecture(tmp_path):
    export_model(build_model(KINDS["gpt2"].model(tmp_path / "config"), 97, seed=0), tmp_path / "student")
    proxy = build_model(layout_of(str(tmp_path / "student")), 97, seed=1)
    assert type(proxy).__name__ == "GPT2LMHeadModel" and proxy.config.n_embd == 32
