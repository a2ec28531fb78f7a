"""Tiny tokenizers of every kind that people bring: those that keep a text, and those that lose some of it."""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIALS = ("<unk>", "<s>", "</s>", "<|im_end|>")
LETTERS = "abcdefghijklmnopqrstuvwxyzTABCDé ,.'\n\t0123456789=+\r"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = ["the", "cat", "sat", "12"]
Made = PreTrainedTokenizerFast


def _fast(model: object, normalizer: object = None, cutter: object = None, decoder: object = None) -> Made:
    backend = Tokenizer(model)
    for name, part in (("normalizer", normalizer), ("pre_tokenizer", cutter), ("decoder", decoder)):
        if part is not None:
            setattr(backend, name, part)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens=["<|im_end|>"], clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _numbered(*groups: object) -> dict[str, int]:
    names = dict.fromkeys(name for group in groups for name in group)  # type: ignore[attr-defined]
    return {name: number for number, name in enumerate(names)}


def _spelt(words: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Words, their beginnings, and the merges that make them."""
    names, merges = [], []
    for word in words:
        for end in range(2, len(word) + 1):
            names.append(word[:end])
            merges.append((word[: end - 1], word[end - 1]))
    return names, list(dict.fromkeys(merges))


def byte_level(normalizer: object = None, prefix: bool = False) -> Made:
    """As GPT-2, Llama 3, Qwen."""
    names, merges = _spelt([*WORDS, "Ġthe", "Ġcat", "Ċ"])
    vocabulary = _numbered(SPECIALS, sorted(pre_tokenizers.ByteLevel.alphabet()), names)
    cutter = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    return _fast(models.BPE(vocabulary, merges), normalizer, cutter, decoders.ByteLevel())


def byte_fallback(normalizer: object, cutter: object = None, strips: bool = False) -> Made:
    """As Llama 2, Mistral, Gemma."""
    names, merges = _spelt([*WORDS, "▁the", "▁cat"])
    vocabulary = _numbered(SPECIALS, BYTES, LETTERS.replace(" ", "▁").replace("\n", ""), names)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    steps += [decoders.Strip(" ", 1, 0)] if strips else []
    model = models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    return _fast(model, normalizer, cutter, decoders.Sequence(steps))


def unigram(falls_back: bool) -> Made:
    """As sentencepiece's unigram models; without bytes to fall back to it knows its letters alone."""
    names = [*SPECIALS, *(BYTES if falls_back else []), *LETTERS.replace(" ", "▁"), *WORDS, "▁the", "▁cat"]
    pieces = [(name, -1.0 if len(name) > 1 else -5.0) for name in dict.fromkeys(names)]
    model = models.Unigram(pieces, unk_id=0, byte_fallback=falls_back)
    return _fast(model, None, pre_tokenizers.Metaspace(), decoders.Metaspace())


def characters() -> Made:
    """A token for each letter that it knows."""
    model = models.WordLevel(_numbered(SPECIALS, LETTERS), unk_token="<unk>")
    return _fast(model, None, pre_tokenizers.Split("", "isolated"), decoders.Fuse())


def word_ends() -> Made:
    """BPE that marks the end of a word, over words and spaces kept apart."""
    vocabulary = _numbered(SPECIALS, LETTERS, [f"{letter}</w>" for letter in LETTERS], ["the</w>", "th"])
    model = models.BPE(vocabulary, [("t", "h"), ("th", "e</w>")], unk_token="<unk>", end_of_word_suffix="</w>")
    return _fast(model, None, pre_tokenizers.Split(" ", "isolated"), decoders.Fuse())


_SPACES = normalizers.Replace(" ", "▁")
KEEPS: dict[str, Callable[[], Made]] = {
    "byte-level": byte_level,
    "byte-level, a space first": lambda: byte_level(prefix=True),
    "byte-level, NFC": lambda: byte_level(normalizers.NFC()),
    "byte-level, NFD": lambda: byte_level(normalizers.NFD()),
    "Gemma": lambda: byte_fallback(_SPACES, pre_tokenizers.Split(" ", "merged_with_previous")),
    "Llama 2": lambda: byte_fallback(normalizers.Sequence([normalizers.Prepend("▁"), _SPACES]), strips=True),
    "Metaspace first": lambda: byte_fallback(None, pre_tokenizers.Metaspace(prepend_scheme="first"), True),
    "Metaspace never": lambda: byte_fallback(None, pre_tokenizers.Metaspace(prepend_scheme="never")),
    "unigram with bytes": lambda: unigram(True),
    "unigram": lambda: unigram(False),
    "characters": characters,
    "word ends": word_ends,
}
KNOWS_LETTERS_ALONE = {"unigram", "characters", "word ends"}
OPENS_WITH_A_SPACE = {
    "byte-level, a space first", "Llama 2", "Metaspace first", "unigram with bytes", "unigram",
}  # fmt: skip


def words(cutter: object) -> Made:
    """Whole words, and what lies between them forgotten."""
    names = _numbered(SPECIALS, ["one", "two", "three", "four"])
    return _fast(models.WordLevel(names, unk_token="<unk>"), None, cutter)


def word_pieces() -> Made:
    """As BERT."""
    names = _numbered(SPECIALS, LETTERS, [f"##{letter}" for letter in LETTERS])
    model = models.WordPiece(names, unk_token="<unk>")
    return _fast(model, normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece())


def _dropping() -> Made:
    made = byte_level()
    made.backend_tokenizer.model.dropout = 0.1
    return made


LOSES: dict[str, Callable[[], Made]] = {
    "words": lambda: words(pre_tokenizers.Whitespace()),
    "words at spaces": lambda: words(pre_tokenizers.WhitespaceSplit()),
    "words at one space": lambda: words(pre_tokenizers.CharDelimiterSplit(" ")),
    "words, spaces removed": lambda: words(pre_tokenizers.Split(" ", "removed")),
    "word pieces": word_pieces,
    "lower case": lambda: byte_level(normalizers.Lowercase()),
    "NFKC": lambda: byte_level(normalizers.NFKC()),
    "stripped": lambda: byte_level(normalizers.Strip()),
    "without accents": lambda: byte_level(normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])),
    "spaces joined": lambda: byte_level(normalizers.Replace("  ", " ")),
    "a space before every part": lambda: byte_fallback(
        None, pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.Metaspace(prepend_scheme="always")])
    ),
    "ids by chance": _dropping,
}
