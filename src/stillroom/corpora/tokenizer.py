"""A byte-level BPE tokenizer: trained on a corpus, or loaded; digits stand alone so that arithmetic can be learnt."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from stillroom.checksums import require
from stillroom.files import fingerprint
from stillroom.types import UserError

SPECIALS = ("<|bos|>", "<|eos|>", "<|pad|>")
BOS, EOS, PAD = range(3)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with ``vocab_size`` tokens (fewer where the text does not support as many).

    Ids 0, 1 and 2 are ``<|bos|>``, ``<|eos|>`` and ``<|pad|>``. Every byte string can be encoded.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIALS[BOS],
        eos_token=SPECIALS[EOS],
        pad_token=SPECIALS[PAD],
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder, hub id or GGUF file; a ``UserError`` that names it where there is none."""
    file = Path(path)
    require(file, but=(".safetensors",))
    inside = {"gguf_file": file.name} if file.suffix == ".gguf" else {}
    try:
        return AutoTokenizer.from_pretrained(str(file.parent) if inside else str(path), **inside)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise UserError(f"{path}: no tokenizer could be loaded ({reason}); check the path or the network.") from error


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of what text becomes which ids: two tokenizers with the same hash can share labels."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return fingerprint(backend.to_str())
    return fingerprint(sorted(tokenizer.get_vocab().items()))
