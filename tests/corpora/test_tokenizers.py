"""Tokenizers of every kind: the bytes of their tokens are those of the text, or no corpus is built; and their hash."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, processors
from transformers import (
    AutoConfig,
    AutoTokenizer,
    ByT5Tokenizer,
    GPTNeoXTokenizer,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from stillroom.config import CorpusConfig, ModelConfig, SourceConfig
from stillroom.corpora import (
    build_corpus,
    is_tokenizer_of,
    load_tokenizer,
    open_corpus,
    same_ids,
    save_opening,
    tokenizer_hash,
    train_tokenizer,
)
from stillroom.corpora.tokenizer import habits, hash_before, save_tokenizer, with_marks
from stillroom.evaluation import Heldout, measure_likelihood
from stillroom.files import read_json, write_json
from stillroom.models.meta import llama_config
from stillroom.types import UserError
from stillroom.vocabulary import encode_documents, num_ids, token_bytes
from tokenizer_kinds import KEEPS, KNOWS_LETTERS_ALONE, LOSES, OPENS_WITH_A_SPACE, byte_level, words

PLAIN = ["the cat sat  on 12 mats.\n", " an indented the\n\tcat 'sat'", "é = 12,\r\n the end", "a", "\n\nthe", "cat "]
ANY = ["e\u0301 日本 🙂👩‍👩‍👧", "▁▂▃ bars", "it spells <s> and </s> and <|im_end|>"]


def texts_for(kind: str) -> list[str]:
    """Texts that a tokenizer of this kind can say."""
    if kind in KNOWS_LETTERS_ALONE:
        return PLAIN
    return [*PLAIN, *ANY] if "unigram" not in kind else [*PLAIN, *ANY[:2]]


def corpus_of(folder: Path, tokenizer, texts: list[str], length: int = 16):
    """A corpus of files with these texts, all of which are in both of its splits."""
    save_tokenizer(tokenizer, folder / "given")
    (folder / "text").mkdir()
    for number in range(160):
        text = "".join(texts[(number + place) % len(texts)] for place in range(25))
        (folder / "text" / f"{number:02d}.txt").write_bytes(
            f"the {'a' * (number % 9)}{number}".encode() + text.encode()
        )
    config = CorpusConfig(
        sources={"text": SourceConfig(kind="files", path=str(folder / "text"))},
        tokenizer=str(folder / "given"), sequence_length=length, train_tokens=4 * length, heldout_tokens=length,
    )  # fmt: skip
    return build_corpus(config, folder / "corpus")


@pytest.mark.parametrize("kind", list(KEEPS))
def test_the_bytes_of_heldout_tokens_are_those_of_the_text(kind: str, tmp_path: Path) -> None:
    """Of every document that lies in the held-out sequences whole; and the ids are the tokenizer's own."""
    tokenizer = KEEPS[kind]()
    corpus = corpus_of(tmp_path, tokenizer, texts_for(kind), length=900)
    tokens, counted = (
        corpus.heldout.tokens(range(len(corpus.heldout))).ravel(),
        corpus.heldout.token_bytes(range(len(corpus.heldout))),
    )
    lengths = token_bytes(corpus.tokenizer)[tokens] if counted is None else counted.ravel()
    files = {file.read_bytes().decode() for file in (tmp_path / "text").glob("*.txt")}
    of_ids = {
        tuple(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]): len(text.encode())
        for text in files
    }
    begins = np.flatnonzero(tokens == corpus.manifest["bos"])
    found = 0
    for begin, end in itertools.pairwise(begins):
        ids = tuple(tokens[begin + 1 : end - 1].tolist())
        assert lengths[begin] == lengths[end - 1] == 0
        assert lengths[begin:end].sum() == of_ids[ids]
        found += 1
    assert found > 1


@pytest.mark.parametrize("kind", sorted(OPENS_WITH_A_SPACE | {"byte-level", "byte-level, NFC"}))
def test_bits_per_byte_of_a_model_that_knows_nothing_are_its_nats_over_the_bytes_of_the_text(
    kind: str, tmp_path: Path
) -> None:
    corpus = corpus_of(tmp_path, KEEPS[kind](), texts_for(kind), length=900)
    heldout = corpus.heldout
    model = LlamaForCausalLM(llama_config(ModelConfig(hidden_size=16, num_layers=1, num_heads=1), corpus.vocab_size))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    sequences = Heldout(heldout, token_bytes(corpus.tokenizer), bytes_of=heldout.token_bytes)
    part = measure_likelihood(model, sequences)
    batch = heldout.batch(range(len(heldout)))
    marks = [corpus.manifest["bos"], corpus.manifest["eos"], -100]
    targets = batch.targets_BT.numpy()
    of_text = ~np.isin(targets, marks)
    stored = heldout.token_bytes(range(len(heldout)))
    by_id = token_bytes(corpus.tokenizer)
    total = (by_id[targets[of_text]] if stored is None else np.roll(stored, -1, 1)[of_text]).sum()
    expected = of_text.sum() * math.log2(corpus.vocab_size) / total
    assert part.bits_per_byte.value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", list(LOSES))
def test_a_tokenizer_that_loses_text_is_refused_before_a_corpus_is_built(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loses text|other ids every time"):
        corpus_of(tmp_path, LOSES[kind](), ["one  two\nthree four"])
    assert not (tmp_path / "corpus").exists()
    with pytest.raises(UserError):
        token_bytes(LOSES[kind]())


@pytest.mark.parametrize("kind", sorted(KNOWS_LETTERS_ALONE))
def test_heldout_text_that_a_tokenizer_has_no_token_for_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpus\.sources\.text: the tokenizer cannot say the text '.*' \(it has no"):
        corpus_of(tmp_path, KEEPS[kind](), ["the cat 🙂 sat "])
    assert not (tmp_path / "corpus").exists()


def test_text_that_gives_a_mark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'the.*gives a token that opens or closes documents"):
        corpus_of(tmp_path, KEEPS["unigram with bytes"](), ["it spells <s> here "])


def test_a_tokenizer_in_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"written in Python"):
        token_bytes(ByT5Tokenizer())


def test_one_mark_serves_for_both() -> None:
    tokenizer = byte_level()
    tokenizer.bos_token = None
    assert habits(tokenizer) == ["it has no token that opens a document; '</s>' does both"]
    assert with_marks(tokenizer).bos_token_id == tokenizer.eos_token_id == 2


def test_a_tokenizer_that_names_no_mark_ends_documents_with_its_own_special_token() -> None:
    tokenizer = byte_level()
    tokenizer.bos_token = tokenizer.eos_token = None
    assert habits(tokenizer) == ["it names no token that opens or ends a document; '</s>' does both"]
    assert with_marks(tokenizer).bos_token_id == tokenizer.eos_token_id == 2


def test_a_tokenizer_without_any_mark_gets_one_and_says_so(tmp_path: Path) -> None:
    state = json.loads(byte_level().backend_tokenizer.to_str()) | {"added_tokens": []}
    without = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    size = num_ids(without)
    (sentence,) = habits(without)
    assert sentence.endswith(f"'<|eos|>' does both, which is added to it as id {size}")
    corpus = corpus_of(tmp_path, without, PLAIN)
    assert (corpus.vocab_size, corpus.manifest["bos"], corpus.manifest["eos"]) == (size + 1, size, size)
    assert tokenizer_hash(open_corpus(corpus.folder).tokenizer) == tokenizer_hash(without)


@pytest.mark.parametrize("kind", sorted(OPENS_WITH_A_SPACE))
def test_a_space_before_every_text_is_told(kind: str) -> None:
    assert any("puts a space before every text" in one for one in habits(KEEPS[kind]()))


def test_marks_that_a_tokenizer_puts_around_a_text_by_itself_are_put_once_and_told(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    assert "puts <s> and </s> around a text" in habits(tokenizer)[0]
    ids = corpus_of(tmp_path, tokenizer, PLAIN, 900).train.tokens([0])[0].tolist()
    assert [1, 1] not in map(list, itertools.pairwise(ids)) and [2, 2] not in map(list, itertools.pairwise(ids))


def test_most_tokenizers_have_no_habits() -> None:
    assert habits(train_tokenizer(["a b"] * 9, 300)) == []


def test_digits_stand_alone_or_in_runs() -> None:
    texts = ["12345 a12345 12345b"] * 50
    assert all(len(name) == 1 for name in train_tokenizer(texts, 300).tokenize("12345"))
    runs = train_tokenizer(texts, 300, digits="runs")
    assert runs.tokenize("a12345b") == ["a", "12345", "b"]


def test_special_tokens_of_ones_own_follow_the_marks_and_no_text_gives_them(tmp_path: Path) -> None:
    save_tokenizer(train_tokenizer(["a b"] * 9, 300, specials=("<|user|>", "<|model|>")), tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.convert_tokens_to_ids(["<|user|>", "<|model|>"]) == [3, 4]
    assert not {3, 4} & set(encode_documents(tokenizer, ["<|user|> a <|model|>"])[0])
    assert tokenizer.decode([3, 4], skip_special_tokens=True) == ""


def test_ids_beyond_the_number_of_tokens_fit_the_corpus(tmp_path: Path) -> None:
    tokenizer = byte_level()
    state = tokenizer.backend_tokenizer.to_str().replace(f'"cat":{tokenizer.get_vocab()["cat"]}', '"cat":70000')
    holey = type(tokenizer)(
        tokenizer_object=type(tokenizer.backend_tokenizer).from_str(state),
        bos_token="<s>", eos_token="</s>", unk_token="<unk>",
    )  # fmt: skip
    assert num_ids(holey) == 70_001 > len(holey)
    corpus = corpus_of(tmp_path, holey, PLAIN)
    assert corpus.vocab_size == 70_001
    assert 70_000 in corpus.train.tokens(range(len(corpus.train)))


def test_a_corpus_from_before_bytes_were_counted_gives_bits_per_byte_only_where_ids_tell_them(tmp_path: Path) -> None:
    for kind, fine in (("byte-level", True), ("Llama 2", False)):
        folder = tmp_path / kind
        corpus = corpus_of(folder, KEEPS[kind](), PLAIN)
        manifest = read_json(folder / "corpus/corpus.json")
        del manifest["bytes_counted"]
        write_json(folder / "corpus/corpus.json", manifest)
        (folder / "corpus/checksums.json").unlink()  # nor had such a corpus any
        corpus.check_bytes()
        again = open_corpus(folder / "corpus")
        if fine:
            again.check_bytes()
        else:
            with pytest.raises(UserError, match="build the corpus again"):
                again.check_bytes()


CALLS = {
    "truncation": lambda t: t("x y", truncation=True, max_length=8),
    "padding": lambda t: [setattr(t, "pad_token", "</s>"), t("x y", padding="max_length", max_length=8)],
    "post-processor": lambda t: setattr(
        t.backend_tokenizer, "post_processor",
        processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]),
    ),
    "an unused token": lambda t: t.add_tokens(["<never seen>"]),
    "a special token": lambda t: t.add_special_tokens({"additional_special_tokens": ["<|tool|>"]}),
    "specials split": lambda t: t("<s>", split_special_tokens=True),
    "roles": lambda t: setattr(t, "pad_token", "</s>"),
    "decoder": lambda t: setattr(t.backend_tokenizer, "decoder", None),
}  # fmt: skip


@pytest.mark.parametrize("what", list(CALLS))
def test_the_hash_does_not_change_with_what_changes_no_id(what: str) -> None:
    tokenizer = byte_level()
    before = tokenizer_hash(tokenizer)
    CALLS[what](tokenizer)
    assert tokenizer_hash(tokenizer) == before


def test_tokenizers_that_give_other_ids_have_other_hashes() -> None:
    runs = byte_level()
    runs.add_tokens(["    ", "\n\n"])  # as GPT-NeoX has them: ordinary text holds these
    own = [train_tokenizer(["some text here"] * 9, 300), train_tokenizer(["other words there"] * 9, 300)]
    made = [*(kind() for kind in KEEPS.values()), words(None), runs, *own]
    assert len({tokenizer_hash(one) for one in made}) == len(made)


def test_an_added_token_or_mark_that_a_corpus_may_hold_must_mean_the_same() -> None:
    plain, larger = byte_level(), byte_level()
    larger.add_tokens(["<never seen>"])
    assert tokenizer_hash(plain) == tokenizer_hash(larger)
    assert same_ids(plain, larger, [1, 2])
    assert not same_ids(larger, plain, [1, 2])  # its corpus may hold an id that the other does not have
    first, second = byte_level(), byte_level()
    first.add_special_tokens({"bos_token": "<|begin|>"})
    second.add_special_tokens({"pad_token": "<|pad|>"})
    assert not same_ids(first, second, [first.bos_token_id, 2])  # the same number, another token


def test_a_hash_that_was_written_down_before_is_still_known(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["some text here"] * 9, 300)
    before = hash_before(tokenizer)
    tokenizer("x", truncation=True, max_length=3, padding="max_length")
    assert hash_before(tokenizer) == before
    assert tokenizer.backend_tokenizer.truncation is not None  # left as it was
    assert is_tokenizer_of(tokenizer, before) and is_tokenizer_of(tokenizer, tokenizer_hash(tokenizer))
    assert not is_tokenizer_of(byte_level(), before)


@pytest.mark.parametrize("model_type", ["llama", "gpt_neox"])
@pytest.mark.parametrize("kind", list(KEEPS))
def test_a_saved_tokenizer_opens_a_text_by_itself_and_reads_it_as_before(
    kind: str, model_type: str, tmp_path: Path
) -> None:
    tokenizer = KEEPS[kind]()
    save_opening(tokenizer, tmp_path)
    AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("the cat", add_special_tokens=False)["input_ids"]
    assert loaded("the cat")["input_ids"] == [tokenizer.bos_token_id, *ids]
    assert loaded("the cat", add_special_tokens=False)["input_ids"] == ids
    assert tokenizer("the cat")["input_ids"] == ids  # the one that was given is left as it was
    if kind != "word ends":  # whose ends the library's decoders write out, or take for spaces
        assert loaded.decode(loaded("the cat")["input_ids"], skip_special_tokens=True).strip() == "the cat"
    assert tokenizer_hash(loaded) == tokenizer_hash(tokenizer) == tokenizer_hash(load_tokenizer(tmp_path))


def test_a_class_that_makes_its_tokenizer_anew_is_saved_as_it_is(tmp_path: Path) -> None:
    """GPT-NeoX's class takes away what puts a bos token first, whatever its file says."""
    vocabulary = byte_level().get_vocab() | {"<|endoftext|>": 5000}
    tokenizer = GPTNeoXTokenizer(vocab=vocabulary, merges=[])
    save_opening(tokenizer, tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)("a")["input_ids"][0] == tokenizer.bos_token_id


def test_a_size_of_the_vocabulary_beside_a_tokenizer_that_has_another_is_refused(tmp_path):
    train_tokenizer(["some text"] * 9, 300).save_pretrained(tmp_path / "own")
    values = {
        "sources": {"facts": SourceConfig(kind="facts")}, "tokenizer": str(tmp_path / "own"), "sequence_length": 16,
        "train_tokens": 320, "heldout_tokens": 32,
    }  # fmt: skip
    with pytest.raises(UserError, match=r"vocab_size: 999 has no effect beside corpus\.tokenizer, which has 2\d\d "):
        build_corpus(CorpusConfig(**values, vocab_size=999), tmp_path / "corpus")
    for number, size in enumerate((2048, build_corpus(CorpusConfig(**values), tmp_path / "first").vocab_size)):
        build_corpus(CorpusConfig(**values, vocab_size=size), tmp_path / str(number))
