"""Held-out text in another tokenizer's tokens: the same bytes are predicted, whatever the two tokenizers are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from stillroom.config import CorpusConfig, SourceConfig
from stillroom.corpora import Corpus, build_corpus, special_ids
from stillroom.corpora.corpus import SequenceSet
from stillroom.corpora.tokenizer import with_marks
from stillroom.evaluation import Heldout, measure_likelihood
from stillroom.evaluation.measuring.other_tokens import in_other_tokens
from stillroom.study.measured_text import material_of
from stillroom.types import IGNORE_INDEX
from stillroom.vocabulary import num_ids, token_bytes
from tokenizer_kinds import KEEPS, KNOWS_LETTERS_ALONE

EXACT = ["byte-level", "byte-level, a space first", "Gemma", "Llama 2", "unigram with bytes"]


def _text(folder: Path) -> Path:
    """Files of letters that every tokenizer here has, two bytes of é among them."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    words = ["the", "cat", "sat", "bad", "face", "fée", "a", "12", "1=2+3", "é", "decade", "eé"]
    for number in range(600):
        said = " ".join(generator.choice(words, generator.integers(3, 60)))
        (folder / f"{number}.txt").write_text(said + ("" if number % 3 else ", and.\n"))
    return folder


def _corpus(root: Path, kind: str) -> tuple[Corpus, Heldout]:
    tokenizer = KEEPS[kind]()
    tokenizer.save_pretrained(root / "tokenizer")
    config = CorpusConfig(
        sources={"text": SourceConfig(kind="files", path=str(_text(root / "text")), max_document_chars=200)},
        tokenizer=str(root / "tokenizer"), sequence_length=16, train_tokens=64, heldout_tokens=320,
    )  # fmt: skip
    corpus = build_corpus(config, root / "corpus")
    return corpus, material_of(corpus, config.sources).heldout


def _in_tokens_of(heldout: Heldout, own: PreTrainedTokenizerBase, kind: str) -> tuple[Heldout, int]:
    other = KEEPS[kind]()
    return in_other_tokens(heldout, own, other, special_ids(with_marks(KEEPS[kind]()))), num_ids(other)


@pytest.mark.parametrize("other", [kind for kind in KEEPS if kind not in KNOWS_LETTERS_ALONE])
@pytest.mark.parametrize("own", EXACT)
def test_the_same_bytes_are_predicted(tmp_path: Path, own: str, other: str) -> None:
    corpus, heldout = _corpus(tmp_path, own)
    told, _ = _in_tokens_of(heldout, corpus.tokenizer, other)
    assert told.bytes_of is not None
    for number in range(len(heldout.sequences)):
        batch = heldout.sequences.batch([number])
        counted = None if heldout.bytes_of is None else heldout.bytes_of([number])
        own_bytes_T = heldout.byte_lengths_V[batch.tokens_BT[0]] if counted is None else counted[0]
        wanted = int(own_bytes_T[1:][(batch.targets_BT[0, :-1] != IGNORE_INDEX).numpy()].sum())
        row = told.sequences.batch([number])
        found = int(told.bytes_of([number])[0][1:][(row.targets_BT[0, :-1] != IGNORE_INDEX).numpy()].sum())
        assert abs(found - wanted) <= 3, number  # a character that a token boundary cuts
        same = row.document_BT[0, 1:] == row.document_BT[0, :-1]
        assert bool(same[(row.targets_BT[0, :-1] != IGNORE_INDEX)].all())  # nothing is predicted across documents


@pytest.mark.parametrize("own", EXACT)
def test_in_its_own_tokens_again_nothing_changes(tmp_path: Path, own: str) -> None:
    corpus, heldout = _corpus(tmp_path, own)
    told, size = _in_tokens_of(heldout, corpus.tokenizer, own)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=128,
        )
    )  # fmt: skip
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    first, second = (measure_likelihood(model, one) for one in (heldout, told))
    assert second.bits_per_byte.value == pytest.approx(
        first.bits_per_byte.value, rel=1.5e-2
    )  # of words that sequences of 16 tokens cut
    opened = [n for n in range(len(heldout.sequences)) if heldout.sequences.batch([n]).tokens_BT[0, 0] == 1]
    assert opened
    for number in opened:  # cut nowhere, it has the very same tokens up to where the sequence ends
        own_T, row = heldout.sequences.batch([number]).tokens_BT[0], told.sequences.batch([number])
        assert torch.equal(row.tokens_BT[0, :6], own_T[:6])


@pytest.mark.parametrize("other", ["byte-level", "Llama 2", "byte-level, NFC"])
def test_a_model_that_knows_nothing_pays_the_same_for_every_token_of_its_own(tmp_path: Path, other: str) -> None:
    corpus, heldout = _corpus(tmp_path, "Gemma")
    told, size = _in_tokens_of(heldout, corpus.tokenizer, other)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=size, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    with torch.no_grad():
        model.lm_head.weight.zero_()
    found = measure_likelihood(model, told)
    assert found.nats_per_token is not None and found.nats_per_token.value == pytest.approx(math.log(size), rel=1e-5)
    rows = [told.sequences.batch([n]) for n in range(len(told.sequences))]
    assert told.bytes_of is not None
    sizes = np.concatenate([told.bytes_of([n])[0][1:] for n in range(len(rows))])
    targets = torch.cat([row.targets_BT[0, :-1] for row in rows]).numpy()
    is_text = (targets != IGNORE_INDEX) & (told.byte_lengths_V[np.maximum(targets, 0)] > 0)
    expected = is_text.sum() * math.log2(size) / sizes[targets != IGNORE_INDEX].sum()
    assert found.bits_per_byte.value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("filling", [0, 1, 10])
def test_marks_that_fill_a_row_are_no_targets_where_one_mark_does_for_both_ends(tmp_path: Path, filling: int) -> None:
    own = KEEPS["byte-level"]()
    mark = special_ids(with_marks(KEEPS["byte-level"]())).bos
    own.bos_token_id = own.eos_token_id = mark
    (ids,) = own(["the cat sat"], add_special_tokens=False)["input_ids"]
    row = np.array([[mark, *ids, *[mark] * filling]])
    sequences = SequenceSet((row,), np.zeros(1, int), np.zeros(1, int), mark, 1, mark)
    heldout = Heldout(sequences, token_bytes(own))
    told = in_other_tokens(heldout, own, KEEPS["byte-level"](), special_ids(with_marks(KEEPS["byte-level"]())))
    counted = [int((one.sequences.batch([0]).targets_BT != IGNORE_INDEX).sum()) for one in (heldout, told)]
    assert counted == [len(ids) + min(filling, 1)] * 2
