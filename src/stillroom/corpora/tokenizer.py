"""A byte-level BPE tokenizer: trained on a corpus, or loaded; digits stand alone so that arithmetic can be learnt."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from stillroom.files import fingerprint, read_json, write_json
from stillroom.models import read_tokenizer
from stillroom.types import SpecialIds, UserError
from stillroom.vocabulary import PROBES, encode_documents, num_ids, text_begins_with_space

SPECIALS = ("<|bos|>", "<|eos|>", "<|pad|>")
BOS, EOS, PAD = range(3)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, digits: Literal["single", "runs"] = "single", specials: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with ``vocab_size`` tokens (fewer where the text does not support as many).

    Ids 0, 1 and 2 are ``<|bos|>``, ``<|eos|>`` and ``<|pad|>``, those after them the ``specials``. Every byte string
    can be encoded. ``digits``: each stands alone, or runs of them may become tokens, never with other letters.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [
            pre_tokenizers.Digits(individual_digits=digits == "single"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIALS, *specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIALS[BOS],
        eos_token=SPECIALS[EOS],
        pad_token=SPECIALS[PAD],
        extra_special_tokens=list(specials),
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder, hub id or GGUF file; a ``UserError`` that names it where there is none."""
    return read_tokenizer(path)


def check_vocab_size(tokenizer: PreTrainedTokenizerBase, asked: int, default: int) -> None:
    """Refuses a number of tokens to train that was asked for beside a tokenizer that has another."""
    if asked != default and asked not in (len(tokenizer), num_ids(tokenizer)):
        raise UserError(
            f"corpus.vocab_size: {asked} has no effect beside corpus.tokenizer, which has {num_ids(tokenizer)} tokens; "
            "remove one of the two."
        )


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of what text becomes which ids: two tokenizers with the same hash give a text the same ids.

    It covers the normaliser, the pre-tokenizer, the vocabulary with its merges, and the ids of ``PROBES`` and of the
    runs of spaces and the markup that known tokenizers have tokens for. It does not cover what a text cannot show: how
    the last call cut or padded, what is put around a text, how ids are decoded, special tokens (a text that spells one
    stays text), and added tokens that none of those texts holds. ``same_ids`` asks further.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return fingerprint(sorted(tokenizer.get_vocab().items()))
    state = json.loads(backend.to_str())
    model = state["model"]
    if isinstance(model.get("vocab"), dict):
        model["vocab"] = sorted(model["vocab"].items())
    ids = encode_documents(tokenizer, [*PROBES, *_MARKUP])
    return fingerprint([state["normalizer"], state["pre_tokenizer"], model, ids])


_MARKUP = (
    *(letter * number for letter in " \n\t-=_*#.~/" for number in range(2, 65)),
    "<table><tr><td><b>a</b></td></tr></table><p><br><h1><ul><li><i><code><strong><em><sub><sup><a><img>",
    "[INST] [/INST] <<SYS>> <</SYS>> <|im_start|> <|im_end|> <mask> <pad> <unk> <bos> <eos> <think> </think>",
    "<tool_call> </tool_call> <tool_response> </tool_response> <unused0> <unused1> <extra_id_0> <reserved_0>",
    "<fim_prefix> <fim_middle> <fim_suffix> <filename> <gh_stars> <issue_start> <repo_name> <jupyter_start>",
)
"""What people's tokenizers have added tokens for, beside the special ones."""


def hash_before(tokenizer: PreTrainedTokenizerBase) -> str:
    """The hash that corpora and label stores carry which were made when every part of a tokenizer was hashed."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return tokenizer_hash(tokenizer)
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    found = fingerprint(backend.to_str())
    if truncation is not None:
        backend.enable_truncation(**truncation)
    if padding is not None:
        backend.enable_padding(**padding)
    return found


def same_ids(
    tokenizer: PreTrainedTokenizerBase,
    other: PreTrainedTokenizerBase,
    marks: Iterable[int] = (),
    *,
    as_written: bool = False,
) -> bool:
    """Whether ids that ``tokenizer`` gave to texts mean the same tokens to a model of ``other``.

    ``marks`` are ids that a corpus puts between texts. ``other`` may have further tokens. ``as_written`` says that
    their hashes are known to be the same.
    """
    if not as_written and tokenizer_hash(tokenizer) != tokenizer_hash(other):
        return False
    added = getattr(tokenizer, "added_tokens_decoder", {})
    placed = {int(i) for i in marks} | {i for i, token in added.items() if not token.special}
    names = [one.convert_ids_to_tokens([i for i in sorted(placed) if i < num_ids(other)]) for one in (tokenizer, other)]
    return all(i < num_ids(other) for i in placed) and names[0] == names[1]


def is_tokenizer_of(tokenizer: PreTrainedTokenizerBase, manifest_hash: str) -> bool:
    """Whether a hash that was written down, now or by an earlier version, is this tokenizer's."""
    return manifest_hash == tokenizer_hash(tokenizer) or manifest_hash == hash_before(tokenizer)


def with_marks(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer with both a bos and an eos token, by which documents are opened and closed.

    Where it has one of the two only, that one serves for both; where it has neither, a special token of its own that
    others use so, else one that is added to it (``<|eos|>``). The ids of a text do not change by it.
    """
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    if bos is None and eos is None:
        own = {str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special}
        eos = next((name for name in _USUAL_ENDS if name in own), None)
        if eos is None:
            eos = SPECIALS[EOS]
            tokenizer.add_special_tokens({"eos_token": eos})
    tokenizer.bos_token, tokenizer.eos_token = bos or eos, eos or bos
    for role in ("bos", "eos"):
        if getattr(tokenizer, f"{role}_token_id") is None:
            raise UserError(
                f"corpus.tokenizer: its {role} token {getattr(tokenizer, f'{role}_token')!r} has no id, so documents "
                "could not be told apart; add the token to its vocabulary."
            )
    return tokenizer


_USUAL_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[SEP]", "<|im_end|>")
"""What the special token that ends documents is called, where a tokenizer does not say which it is."""


def habits(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What is done differently with a tokenizer than it does by itself, in sentences; none for most.

    Asked of it as it was loaded, before ``with_marks``.
    """
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    marked = tokenizer if bos and eos else with_marks(copy.deepcopy(tokenizer))
    found = []
    if bos is None and eos is None:
        new = f", which is added to it as id {marked.eos_token_id}" if num_ids(marked) > num_ids(tokenizer) else ""
        found.append(f"it names no token that opens or ends a document; {marked.eos_token!r} does both{new}")
    elif bos is None or eos is None:
        missing = "opens" if bos is None else "ends"
        found.append(f"it has no token that {missing} a document; {bos or eos!r} does both")
    put: list[int] = tokenizer("a")["input_ids"]  # pyright: ignore[reportAssignmentType]
    bare = encode_documents(tokenizer, ["a"])[0]
    if put != bare:
        names = [str(tokenizer.convert_ids_to_tokens(i)) for i in put if i not in bare]
        found.append(
            f"by itself it puts {' and '.join(dict.fromkeys(names))} around a text; here a document is opened by "
            f"{marked.bos_token} and closed by {marked.eos_token}, once"
        )
    if text_begins_with_space(tokenizer):
        found.append(
            "it puts a space before every text, and so before every document; the space is no byte of the text"
        )
    return found


def special_ids(tokenizer: PreTrainedTokenizerBase) -> SpecialIds:
    """The ids with which a model of this tokenizer begins, ends and pads a text."""
    loose: Any = tokenizer
    found = (loose.bos_token_id, loose.eos_token_id, loose.pad_token_id)
    return SpecialIds(*(None if i is None else int(i) for i in found))


def save_opening(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Saves a tokenizer that puts the bos token before every text by itself, as every document had it in training."""
    opening = copy.deepcopy(tokenizer)
    bos: Any = opening.bos_token_id
    backend: Any = getattr(opening, "backend_tokenizer", None)
    if backend is not None and bos is not None and opening("a")["input_ids"][:1] != [bos]:  # pyright: ignore[reportIndexIssue]
        backend.post_processor = _opening(backend, str(opening.bos_token), int(bos))
    save_tokenizer(opening, folder)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Saves a tokenizer such that it is read as it is, and not made anew by the class of a model that had it.

    Some classes of transformers set parts of their own when they are loaded, whatever ``tokenizer.json`` says.
    """
    tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    if (folder / "tokenizer.json").is_file() and type(tokenizer) is not PreTrainedTokenizerFast:
        write_json(settings, read_json(settings) | {"tokenizer_class": PreTrainedTokenizerFast.__name__})


def _opening(backend: Any, token: str, number: int) -> Any:
    """A post-processor that puts a token before a text, and sets places as the one before did."""
    template = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B:1", special_tokens=[(token, number)]
    )
    return processors.Sequence([backend.post_processor, template]) if _sets_places(backend) else template


def _sets_places(backend: Any) -> bool:
    return isinstance(backend.post_processor, processors.ByteLevel)
