"""Shim until the sources' own lands."""

from __future__ import annotations

import hashlib


def content_hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def is_held_out(digest: bytes, seed: int) -> bool:
    own = hashlib.blake2b(digest + str(seed).encode(), digest_size=8).digest()
    return int.from_bytes(own, "little") % 20 == 0
