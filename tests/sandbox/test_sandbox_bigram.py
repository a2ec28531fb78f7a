"""Learners of the bigram world beside its theory, and the sweep from options to a run folder."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forked import finish, start
from stillroom.config import parse
from stillroom.results.intervals import seeds_mean
from stillroom.sandbox.bigram import run_bigram as pipeline
from stillroom.sandbox.bigram.bigram_cells import class_rows
from stillroom.sandbox.bigram.bigram_config import BigramSweep
from stillroom.sandbox.bigram.bigram_transformer import transformer_cell
from stillroom.sandbox.bigram.run_bigram import run_bigram
from stillroom.sandbox.bigram.tabular import (
    Arm,
    TabularRouting,
    arm_target,
    by_class,
    by_gradient,
    divergence,
    maximum_likelihood,
    parse_routing,
    routed_shares,
    total_variation,
)
from stillroom.sandbox.bigram.theory import (
    best_policy,
    coupon_samples,
    coverage,
    divergence_curve,
    mean_deviation,
    mean_log,
    samples_for,
    uniform_leak_floor,
    variation_curve,
    visit_nodes,
)
from stillroom.study.progress import StageDisplay
from stillroom.types import UserError
from stillroom.worlds.bigram import BigramOptions, bigram_world
from stillroom.worlds.bigram_teachers import EXACT, TeacherSpec

WORLD = bigram_world(BigramOptions())
LEAK = TeacherSpec("uniform", 0.1)


def measured(arm: Arm, size: int, seeds: int = 5, metric: str = "tv") -> dict[str, float]:
    """Mean distance by class over seeds."""
    found = []
    for seed in range(seeds):
        random = np.random.default_rng([11, seed])
        learnt = maximum_likelihood(WORLD.counts(size, random), arm_target(WORLD, arm, seed), random)
        if metric == "tv":
            found.append(by_class(total_variation(learnt.rows(), WORLD.matrix_KK), WORLD))
        else:
            found.append(by_class(divergence(learnt.smoothed_rows(), WORLD.matrix_KK), WORLD))
    return {kind: float(np.mean([each[kind] for each in found])) for kind in found[0]}


@pytest.mark.parametrize(
    ("size", "arm", "kind", "expected", "error"),
    [
        # k = 100, half of the rows Dirichlet(1), half certain, soft labels alone (alpha = 1): the tabular check.
        (460, Arm(), "high", 0.90, 0.015),
        (460, Arm(1.0), "high", 0.007, 0.012),
        (460, Arm(1.0, LEAK), "high", 0.039, 0.012),
        (460, Arm(), "low", 0.00, 0.03),
        (460, Arm(1.0, LEAK), "low", 0.111, 0.02),
        (4_600, Arm(), "high", 0.51, 0.015),
        (4_600, Arm(1.0), "high", 0.0, 1e-9),
        (4_600, Arm(), "low", 0.0, 1e-9),
        (4_600, Arm(1.0), "low", 0.0, 1e-9),
        (4_600, Arm(1.0, LEAK), "high", 0.036, 0.002),
        (4_600, Arm(1.0, LEAK), "low", 0.099, 5e-4),
        (200_000, Arm(), "high", 0.078, 0.002),
        (200_000, Arm(), "low", 0.0, 1e-9),
        (200_000, Arm(1.0, LEAK), "high", 0.037, 0.002),
        (200_000, Arm(1.0, LEAK), "low", 0.099, 5e-4),
    ],
)
def test_the_tabular_check_is_reproduced(size, arm, kind, expected, error):
    assert measured(arm, size)[kind] == pytest.approx(expected, abs=error)


@settings(max_examples=25, deadline=None)
@given(
    alpha=st.floats(0.05, 1.0),
    leak=st.floats(0.0, 0.5),
    temperature=st.floats(0.5, 3.0),
    share=st.floats(0.0, 0.99),
    rule=st.sampled_from(["none", "low-entropy", "random"]),
    weight=st.sampled_from(["restore", "keep"]),
)
def test_the_mixture_optimum_is_reached(alpha, leak, temperature, share, rule, weight):
    world = bigram_world(BigramOptions(states=12))
    arm = Arm(alpha, TeacherSpec("uniform", leak), temperature, TabularRouting(rule, share), weight)
    target = arm_target(world, arm)
    random = np.random.default_rng(0)
    learnt = maximum_likelihood(world.counts(20_000_000, random), target, random)
    assert np.abs(learnt.rows() - target.optimum(world.matrix_KK)).max() < 4e-3


def test_the_mixture_optimum_is_that_of_the_loss_itself():
    """No other row has a lower loss: the gradient of (1-α)·CE(π) + α·CE(s) vanishes at q* along every direction."""
    target = arm_target(WORLD, Arm(0.7, LEAK))
    best = target.optimum(WORLD.matrix_KK)
    loss = lambda rows: -((0.3 * WORLD.matrix_KK + 0.7 * target.teacher_KK) * np.log(rows)).sum(1)  # noqa: E731
    random = np.random.default_rng(1)
    for size in (1e-3, 0.1, 0.9):
        other = (1 - size) * best + size * random.dirichlet(np.ones(100), 100)
        assert (loss(other) > loss(best)).all()


@pytest.mark.parametrize("alpha", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("leak", [0.05, 0.1, 0.2])
def test_the_floor_is_alpha_times_leak_on_certain_rows_and_routing_removes_it(alpha, leak):
    arm = Arm(alpha, TeacherSpec("uniform", leak))
    found = measured(arm, 1_000_000, seeds=1)["low"]
    assert found == pytest.approx(alpha * leak, rel=0.05)
    assert found == pytest.approx(uniform_leak_floor(alpha, leak, 100), rel=1e-9)
    routed = Arm(alpha, arm.teacher, 1.0, TabularRouting("low-entropy", 0.5))
    assert measured(routed, 1_000_000, seeds=1)["low"] == pytest.approx(0.0, abs=1e-9)
    partly = Arm(alpha, arm.teacher, 1.0, TabularRouting("low-entropy", 0.15))
    assert measured(partly, 1_000_000, seeds=1)["low"] == pytest.approx(0.7 * found, rel=0.01)


@pytest.mark.parametrize("size", [1_000, 10_000, 100_000])
@pytest.mark.parametrize("arm", [Arm(), Arm(0.5), Arm(0.9, LEAK)])
def test_theory_expects_what_is_measured_on_high_entropy_rows(size, arm):
    rows = class_rows(WORLD, arm_target(WORLD, arm), BigramSweep())["high"]
    assert measured(arm, size)["high"] == pytest.approx(variation_curve([size], rows)[0], rel=0.04)
    assert measured(arm, size, metric="kl")["high"] == pytest.approx(divergence_curve([size], rows)[0], rel=0.08)


def test_partly_routed_rows_have_the_sampling_error_of_fewer_samples():
    arm = Arm(0.9, EXACT, 1.0, TabularRouting("random", 0.5))
    target = arm_target(WORLD, arm)
    assert target.efficiency_K == pytest.approx(np.full(100, 0.55**2 / 0.505))
    rows = class_rows(WORLD, target, BigramSweep())["high"]
    for size, error in ((1_000, 0.08), (100_000, 0.03)):
        assert measured(arm, size)["high"] == pytest.approx(variation_curve([size], rows)[0], rel=error)


def test_error_falls_as_the_root_of_the_samples():
    found = [measured(Arm(), size)["high"] for size in (100_000, 400_000, 1_600_000)]
    assert found[0] / found[1] == pytest.approx(2.0, rel=0.08)
    assert found[1] / found[2] == pytest.approx(2.0, rel=0.08)


def test_soft_labels_divide_the_sampling_error_by_one_minus_alpha():
    spt, dpt = (measured(Arm(alpha), 100_000)["high"] for alpha in (0.0, 0.9))
    assert dpt == pytest.approx(0.1 * spt, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(num=st.integers(1, 120), chance=st.floats(0.0, 1.0), part=st.floats(0.0, 1.0))
def test_binomial_expectations_are_those_of_the_sum(num, chance, part):
    counts = np.arange(num + 1)
    weights = np.array([math.comb(num, int(x)) * chance ** int(x) * (1 - chance) ** (num - int(x)) for x in counts])
    point = part * num
    exact = float((weights * np.abs(counts - point)).sum())
    assert mean_deviation(num, np.array([chance]), np.array([point]))[0] == pytest.approx(exact, rel=0.03, abs=2e-2)
    logs = float((weights * np.log(0.3 * counts + 0.7)).sum())
    assert mean_log(num, np.array([chance]), np.array([0.3]), np.array([0.7]))[0] == pytest.approx(logs, abs=2e-3)


@settings(max_examples=20, deadline=None)
@given(samples=st.integers(1, 100_000), states=st.integers(2, 200))
def test_the_nodes_of_a_rows_visits_have_its_mean(samples, states):
    never, nodes = visit_nodes(samples, 1 / states)
    assert never + sum(weight for _, weight in nodes) == pytest.approx(1.0, abs=1e-6)
    mean = sum(visits * weight for visits, weight in nodes)
    assert mean == pytest.approx(samples / states, abs=0.51)


def test_hard_labels_need_p_over_eps_squared_more_samples():
    worlds = [bigram_world(BigramOptions(high_share=1.0, support=width, concentration=1e6)) for width in (10, 40)]
    share = np.full(100, 0.01)
    for world, width in zip(worlds, (10, 40), strict=True):  # even rows: K·(p-1)/(2π·ε²)
        assert samples_for(0.05, world.matrix_KK, share) == pytest.approx(
            100 * (width - 1) / (2 * math.pi * 0.0025), rel=0.02
        )
    assert coupon_samples(share) == pytest.approx(518.74, abs=0.01)


@pytest.mark.parametrize(
    ("chances", "draws", "expected"),
    [((0.6, 0.4), 1, 0.6), ((0.6, 0.4), 2, 0.76), ((0.5, 0.3, 0.2), 4, 0.820)],
)
def test_the_best_policy_reaches_the_known_values(chances, draws, expected):
    row = np.array([chances])
    assert coverage(row, best_policy(row, draws), draws)[0] == pytest.approx(expected, abs=5e-4)


@settings(max_examples=25, deadline=None)
@given(width=st.integers(2, 12), draws=st.integers(1, 30), seed=st.integers(0, 10_000))
def test_no_policy_covers_more_than_the_best(width, draws, seed):
    random = np.random.default_rng(seed)
    row = random.dirichlet(np.ones(width), 1)
    policy = best_policy(row, draws)
    assert policy.sum() == pytest.approx(1.0)
    most = coverage(row, policy, draws)[0]
    for other in (row, *(random.dirichlet(np.ones(width), 1) for _ in range(20))):
        assert coverage(row, other, draws)[0] <= most + 1e-9
        assert coverage(row, 0.9 * policy + 0.1 * other, draws)[0] <= most + 1e-9


@settings(max_examples=30, deadline=None)
@given(entropies=st.lists(st.sampled_from([0.0, 0.3, 1.0, 2.0]), min_size=2, max_size=20), share=st.floats(0.01, 0.99))
def test_routing_takes_its_share_from_the_lowest_entropies(entropies, share):
    entropy = np.array(entropies)
    visits = np.full(len(entropy), 1 / len(entropy))
    routed = routed_shares(entropy, visits, TabularRouting("low-entropy", share))
    assert routed @ visits == pytest.approx(share, abs=1e-9)
    for lower in np.unique(entropy):
        if (routed[entropy > lower] > 0).any():
            assert (routed[entropy == lower] == 1).all()


def test_routings_are_read_as_they_are_written():
    for text in ("none", "0.15", "random:0.5"):
        assert str(parse_routing(text)) == text
    for text in ("1", "-0.1", "often", "student:0.1"):
        with pytest.raises(ValueError, match="not understood"):
            parse_routing(text)


@pytest.mark.parametrize("arm", [Arm(1.0), Arm(1.0, LEAK), Arm(0.9, LEAK)])
def test_a_softmax_table_learns_the_same_optimum_by_gradient(arm):
    target = arm_target(WORLD, arm)
    rows = by_gradient(WORLD, target, [100_096], seed=0)[0]
    far = by_class(total_variation(rows, target.optimum(WORLD.matrix_KK)), WORLD)
    assert far["low"] < 0.01
    assert far["high"] < (0.001 if arm.alpha == 1 else 0.025)


def test_an_interval_over_seeds_is_students():
    est = seeds_mean([1.0, 2.0, 3.0])
    assert (est.value, est.num) == (2.0, 3)
    assert est.high - 2.0 == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)
    assert seeds_mean([1.5]).low == seeds_mean([1.5]).high == 1.5


SMALL = {
    "states": 20, "samples": (50, 500, 5000), "seeds": 3, "teachers": ("exact", "uniform:0.1"), "temperatures": (1.0,),
    "routings": ("none", "0.5"), "ratio_supports": (5,), "gradient_samples": 2560, "gradient_seeds": 1,
    "transformer_tokens": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("bigram")
    sweep = BigramSweep(**SMALL)
    return root, sweep, run_bigram(sweep, root / "run", root / "artifacts", StageDisplay())


def numbers(folder: Path) -> dict:
    data = json.loads((folder / "sandbox.json").read_text())
    return {name: value for name, value in data.items() if name not in ("stages", "total_seconds", "fingerprint")}


def test_a_sweep_reuses_every_cell_and_gives_the_same_numbers(finished):
    root, sweep, folder = finished
    before = numbers(folder)
    run_bigram(sweep, root / "run", root / "artifacts", StageDisplay())
    assert all(stage["reused"] for stage in json.loads((folder / "sandbox.json").read_text())["stages"])
    assert numbers(folder) == before
    fresh = run_bigram(sweep, root / "fresh" / "run", None, StageDisplay())
    assert numbers(fresh) == before


def test_more_seeds_measure_only_the_new_ones(finished, monkeypatch):
    root, sweep, _ = finished
    measured_seeds = []
    plain = pipeline.seed_cell
    monkeypatch.setattr(
        pipeline, "seed_cell", lambda world, sweep, seed: measured_seeds.append(seed) or plain(world, sweep, seed)
    )
    run_bigram(sweep.model_copy(update={"seeds": 5}), root / "more", root / "artifacts", StageDisplay())
    assert measured_seeds == [3, 4]


def test_every_arm_of_a_sweep_has_its_numbers(finished):
    _, sweep, folder = finished
    data = json.loads((folder / "sandbox.json").read_text())
    assert [arm["name"] for arm in data["arms"]] == [arm.name for arm in sweep.arms()]
    for arm in data["arms"]:
        for kind in ("high", "low"):
            for point in arm["tv"][kind]:
                assert 0 <= point["value"] <= 1
                assert point["low"] <= point["value"] <= point["high"]
                assert point["num"] == 3
    assert data["arms"][0]["name"] == "SPT"
    assert data["gradient"]["samples"][-1] == 2560


def test_a_folder_of_other_options_is_refused_untouched(finished, tmp_path):
    root, sweep, _ = finished
    with pytest.raises(UserError, match="other options"):
        run_bigram(sweep.model_copy(update={"seeds": 7}), root / "run", root / "artifacts", StageDisplay())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="no run folder"):
        run_bigram(sweep, tmp_path / "mine", None, StageDisplay())
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    "values",
    [
        {"states": 1}, {"alphas": [1.5]}, {"teachers": ["oracle"]}, {"routings": ["1.0"]}, {"samples": [10, 5]},
        {"states": 10, "support": 11}, {"seeds": 0}, {"visits": "often"}, {"temperatures": []},
        {"hard_weight": "keep", "alphas": [1.0]},
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused_with_one_sentence(values):
    with pytest.raises(UserError) as caught:
        parse(BigramSweep, values, "sandbox bigram")
    assert str(caught.value).count("\n") == 0
    with pytest.raises(UserError, match="expected drawn"):
        BigramSweep(world="elsewhere").make_world()


def test_a_transformer_learns_the_world_through_the_training_loop(tmp_path):
    sweep = BigramSweep(states=20, ratio_supports=(), transformer_tokens=100_000)
    world = sweep.make_world()
    transformer_cell(tmp_path, world, sweep, Arm(0.9, EXACT), 0)
    cell = json.loads((tmp_path / "cell.json").read_text())
    assert cell["tv"][0]["low"] > 0.8
    assert cell["tv"][-1]["low"] < 0.03
    assert cell["tv"][-1]["high"] < 0.15
    assert cell["validation_ce"] - world.optimal_loss_nats() < 0.1


def test_a_sweep_that_is_stopped_goes_on_and_ends_alike(finished, tmp_path):
    _, _, folder = finished
    options = [
        "sandbox", "bigram", "--states", "20", "--samples", "50,500,5000", "--seeds", "3", "--teacher",
        "exact,uniform:0.1", "--temperature", "1", "--routing", "none,0.5", "--gradient-samples", "2560",
        "--transformer-tokens", "0", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    errors = tmp_path / "errors.txt"
    process = start(options, errors)
    deadline = time.monotonic() + 60
    while not list((tmp_path).glob("artifacts/sandbox-bigram-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    if process.is_alive():
        os.kill(process.pid or 0, signal.SIGINT)
    code, complaint = finish(process, errors)
    assert code in (0, 130), complaint
    assert "Traceback" not in complaint
    code, complaint = finish(start(options, errors), errors)
    assert code == 0, complaint
    again = json.loads((tmp_path / "run" / "sandbox.json").read_text())
    assert again["arms"] == numbers(folder)["arms"]
    assert (tmp_path / "run" / "report.html").exists()
    leftovers = [file for file in tmp_path.rglob("*") if "unfinished" in file.name or file.name.endswith(".lock")]
    assert not leftovers
