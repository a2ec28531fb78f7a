"""A record gives back exactly the ids and counts that went in, and the rest within the stated error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.config import LabelsConfig
from stillroom.labels import Damaged, LabelStore
from stillroom.labels.codecs import codebook
from stillroom.labels.codecs.gold import LEVELS, from_symbols, rank_class, rank_of_class, to_symbols
from stillroom.labels.codecs.id_sets import SetCoder, pack_bits, unpack_bits
from stillroom.labels.codecs.position_kinds import Rankings
from stillroom.labels.codecs.sampled import Sampled, SampledEntries
from stillroom.labels.codecs.symbols import PairCoder, SymbolCoder
from stillroom.labels.ragged import NO_GOLD, PaddedLabels, RaggedLabels
from stillroom.teachers import LiveLabels, ModelScores
from tiny_labels import TinySequences, make, tiny_teacher

T = 16


def random_rows(seed: int, vocabulary: int, length: int = T, num_samples: int = 50) -> tuple[np.ndarray, RaggedLabels]:
    """Tokens and sampled labels of one sequence, from flat to certain positions."""
    chance = np.random.default_rng(seed)
    ids, counts, num = [], [], []
    for position in range(length):
        favourites = chance.integers(0, vocabulary, 1 + position * 60 // length)
        drawn, often = np.unique(chance.choice(favourites, num_samples), return_counts=True)
        ids.append(drawn), counts.append(often), num.append(len(drawn))
    rank = chance.integers(-1, vocabulary, length).astype(np.int32)
    rows = RaggedLabels(
        num_N=np.array(num, np.uint16),
        ids_E=np.concatenate(ids).astype(np.int32),
        values_E=np.concatenate(counts).astype(np.uint8),
        entropy_N=chance.exponential(1.5, length).clip(max=12.0).astype(np.float32),
        gold_logprob_N=np.where(rank == NO_GOLD, 0, -chance.exponential(3.0, length)).astype(np.float32),
        gold_rank_N=rank,
    )
    tokens = np.array([one[0] if len(one) % 2 else chance.integers(vocabulary) for one in ids], np.int64)
    return np.roll(tokens, 1), rows


def as_sets(num_N: np.ndarray, ids: list[np.ndarray], weights: list[np.ndarray]) -> list[dict[int, int]]:
    return [
        dict(zip(one[:num].tolist(), np.rint(weight[:num] * 50).astype(int).tolist(), strict=True))
        for num, one, weight in zip(num_N.tolist(), ids, weights, strict=True)
    ]


def check_round_trip(codec, records: list[tuple[np.ndarray, RaggedLabels]]) -> PaddedLabels:
    payloads = [memoryview(codec.encode(tokens, rows)) for tokens, rows in records]
    found, tokens = codec.decode_with_tokens(payloads)
    ends = np.cumsum([0, *(len(rows) for _, rows in records)])
    for start, end, row, (wanted_tokens, rows) in zip(ends, ends[1:], tokens, records, strict=False):
        splits = np.cumsum(rows.num_N)[:-1]
        given = as_sets(rows.num_N, np.split(rows.ids_E, splits), np.split(rows.values_E / 50, splits))
        assert (
            as_sets(found.num_N[start:end], list(found.ids_NK[start:end]), list(found.weights_NK[start:end])) == given
        )
        assert np.array_equal(found.gold_rank_N[start:end], rows.gold_rank_N)
        assert np.array_equal(row, wanted_tokens)
        error = np.abs(found.entropy_N[start:end] - rows.entropy_N)
        assert (error <= np.sqrt(rows.entropy_N) / 128 + 1e-4).all()
        assert (np.abs(found.gold_logprob_N[start:end] - rows.gold_logprob_N) <= 0.26).all()
    return found


@pytest.mark.parametrize("vocabulary", [40, 300, 49_152, 262_144])
def test_round_trip_and_codebook(vocabulary):
    records = [random_rows(seed, vocabulary) for seed in range(20)]
    codec = codebook.fit(Sampled(), vocabulary, records[:8])
    written = codebook.to_bytes(codec)
    again = codebook.from_bytes(written, SampledEntries)
    assert codebook.to_bytes(again) == written
    together = check_round_trip(again, records)
    alone = check_round_trip(again, records[13:14])
    assert np.array_equal(together.entropy_N[13 * T : 14 * T], alone.entropy_N)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), vocabulary=st.integers(2, 3000), fitted_to=st.integers(0, 50))
def test_a_codebook_of_other_labels_loses_nothing(seed, vocabulary, fitted_to):
    codec = codebook.fit(Sampled(), vocabulary, [random_rows(fitted_to, vocabulary)])
    check_round_trip(codec, [random_rows(seed, vocabulary), random_rows(seed + 1, vocabulary)])


def test_long_records_are_decoded_piece_by_piece():
    records = [random_rows(seed, 500, length=3000) for seed in range(3)]
    check_round_trip(codebook.fit(Sampled(), 500, records[:1]), records)


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 2**31)), max_size=200))
def test_bits_come_back(pairs):
    bits = np.array([bit for bit, _ in pairs], np.int64)
    values = np.array([value for _, value in pairs], np.int64) & ((1 << bits) - 1)
    cut = len(pairs) // 3
    packed = [pack_bits(values[:cut], bits[:cut]), pack_bits(values[cut:], bits[cut:])]
    assert np.array_equal(unpack_bits(bits, np.array([cut, len(pairs) - cut]), packed), values)


@given(st.lists(st.lists(st.integers(0, 999), max_size=40, unique=True), min_size=1, max_size=30))
def test_sets_come_back_sorted_by_rank(sets):
    chance = np.random.default_rng(0)
    rankings = Rankings(
        chance.integers(0, 20, 1000).astype(np.uint8),
        chance.integers(0, 5, (3, 1000)).astype(np.uint8),
        np.zeros(3, np.uint16),
    )
    sizes = np.array([len(one) for one in sets], np.int64)
    kinds = np.arange(len(sets)) % 3
    coder = SetCoder.train(rankings, np.arange(1000), np.array([1000]), np.array([0]), (16, 32, 64))
    ordered = [
        sorted(one, key=lambda i, kind=kind: rankings.rank_CV[kind, i]) for one, kind in zip(sets, kinds, strict=True)
    ]
    ids = np.concatenate([np.array(one, np.int64) for one in ordered])
    steps, packed = coder.encode(ids, sizes, kinds)
    assert np.array_equal(coder.decode(steps, sizes, kinds, np.array([sizes.sum()]), [packed]), ids)


def test_kinds_are_found_again_and_make_sets_cheaper():
    chance = np.random.default_rng(0)
    own = [chance.permutation(500)[:40] for _ in range(2)]
    truth = chance.integers(0, 2, 2048)
    sets = [np.sort(chance.choice(own[kind], 8, replace=False)) for kind in truth]
    ids, num = np.concatenate(sets), np.full(len(sets), 8)
    rankings = Rankings.train(ids, num, 500, 4)
    again = Rankings.from_bytes(rankings.to_bytes())
    assert again.to_bytes() == rankings.to_bytes() and rankings.num_kinds == 4
    chosen = again.choose(ids, num)
    assert all(len(np.unique(truth[chosen == kind])) <= 1 for kind in range(4))

    def bits(of: Rankings) -> float:
        kinds = of.choose(ids, num)
        ranks = of.rank_CV[kinds[:, None], ids.reshape(-1, 8)]
        return float(np.log2(1 + ranks).mean())

    assert bits(again) < bits(again.shared())


def test_rankings_that_are_cut_short_are_noticed():
    rankings = Rankings.train(np.arange(50), np.array([50]), 60, 4)
    assert rankings.num_kinds == 1
    with pytest.raises(Damaged, match="rankings have another length"):
        Rankings.from_bytes(rankings.to_bytes()[:-1])


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 1024)), max_size=50))
def test_pairs_come_back(pairs):
    coder = PairCoder.train(np.array([1, 1, 2]), np.array([0, 0, 7]))
    first, second = (np.array([pair[place] for pair in pairs], np.int64) for place in (0, 1))
    symbols, rest = coder.encode(first, second)
    found = coder.decode(symbols, rest)
    assert np.array_equal(found[0], first) and np.array_equal(found[1], second)


@given(st.binary(max_size=300))
def test_symbols_come_back_with_and_without_tables(data):
    symbols = np.frombuffer(data, np.uint8)
    trained = SymbolCoder.train([np.arange(200, dtype=np.uint8) % 17 for _ in range(50)])
    for coder in (SymbolCoder(), trained):
        assert np.array_equal(coder.decode([coder.encode(symbols)], [len(symbols)]), symbols)


def test_levels_have_the_stated_error_and_no_bias():
    nats = np.linspace(0, 12.2, 200_001)
    guess = np.full(len(nats), 200, np.uint8)
    found = from_symbols(*to_symbols(nats, guess), guess)
    assert (np.abs(found - nats) <= np.sqrt(nats) / 128 + 1e-4).all() and abs((found - nats).mean()) < 1e-4
    assert len(LEVELS) == 512 and LEVELS[-1] > 44


@given(st.lists(st.integers(-1, 262_143), min_size=1, max_size=60))
def test_ranks_come_back(ranks):
    rank = np.array(ranks, np.int32)
    classes, packed = rank_class(rank)
    assert classes.max() < 64
    assert np.array_equal(rank_of_class(classes.astype(np.int32), 1, [packed]), rank)


@pytest.mark.parametrize("codec", ["top-k", "top-p"])
def test_largest_probabilities_stay_close_and_add_up(teacher, corpus, tmp_path, codec):
    manifest = make(teacher, corpus, tmp_path / "labels", codec=codec, k=20, p=0.9)
    batch = corpus.batch(range(6))
    stored = LabelStore.open(tmp_path / "labels").lookup(batch.tokens_BT)
    config = LabelsConfig(codec=codec, k=20, p=0.9)
    live = LiveLabels(ModelScores(tiny_teacher(), 300, precision="fp32"), config).labels(batch)
    assert stored.tail is not None and live.tail is not None
    assert torch.allclose(stored.weights.sum(-1) + stored.tail, torch.ones(6, corpus.sequence_length), atol=1e-5)
    assert torch.equal((stored.weights > 0).sum(-1), (live.weights > 0).sum(-1))
    for labels in (stored, live):
        assert labels.ids.shape == labels.weights.shape
    dense = [torch.zeros(6, corpus.sequence_length, 300).scatter_add(2, one.ids, one.weights) for one in (stored, live)]
    assert ((dense[0].sqrt() - dense[1].sqrt()).abs() < 1.0 / config.value_steps).all()
    assert 0 <= float(manifest.fidelity["mean_kl_nats"]) < 1e-3


@pytest.mark.parametrize("codec", ["top-k", "top-p"])
def test_coarser_levels_take_fewer_bytes_and_say_what_they_lose(teacher, corpus, tmp_path, codec):
    made = {
        steps: make(teacher, corpus, tmp_path / str(steps), codec=codec, k=21, value_steps=steps)
        for steps in (5, 15, 199)
    }
    divergence = {steps: float(manifest.fidelity["mean_kl_nats"]) for steps, manifest in made.items()}
    assert divergence[5] > divergence[15] > divergence[199]
    sizes = {steps: len((tmp_path / str(steps) / "shards/00000000.bin").read_bytes()) for steps in made}
    assert sizes[5] < sizes[15] < sizes[199]
    tokens = corpus.batch(range(9)).tokens_BT
    stores = [LabelStore.open(tmp_path / str(steps)) for steps in made]
    found = [store.lookup(tokens) for store in stores]
    assert all(torch.equal(one.ids.sort(-1).values, found[-1].ids.sort(-1).values) for one in found)
    assert all(torch.equal(one.gold_rank, found[-1].gold_rank) for one in found)
    together, alone_ = found[0], stores[0].lookup(tokens[3:4])
    width = alone_.weights.shape[-1]
    assert torch.equal(together.weights[3, :, :width], alone_.weights[0])
    for store in stores:
        assert list(store.verify())[-1] == store.manifest.num_shards


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_is_applied_at_capture(teacher, corpus, tmp_path, temperature):
    make(teacher, TinySequences(8), tmp_path / "labels", codec="top-k", k=300, temperature=temperature)
    batch = TinySequences(8).batch([2])
    stored = LabelStore.open(tmp_path / "labels").lookup(batch.tokens_BT)
    config = LabelsConfig(codec="top-k", k=300)
    plain = LiveLabels(ModelScores(tiny_teacher(), 300, precision="fp32"), config).labels(batch)
    dense = [torch.zeros(1, 32, 300).scatter_add(2, one.ids, one.weights) for one in (stored, plain)]
    wanted = torch.softmax(dense[1].log() / temperature, -1)
    assert (dense[0] - wanted).abs().max() < 0.02
