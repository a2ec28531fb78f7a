"""Which texts are held out: by a hash of their content, so that the same text never stands on both sides."""

from __future__ import annotations

import hashlib

_EVERY = 20  # one text in so many is held out


def content_hash(text: str) -> bytes:
    """16 bytes by which a text is known: two different texts have the same ones with a probability below 1e-18."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def is_held_out(content: bytes, seed: int) -> bool:
    """Whether a text of this hash belongs to the held-out split: about one in twenty, others for another seed."""
    digest = hashlib.blake2b(content, digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little") % _EVERY == 0
