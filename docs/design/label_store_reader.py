"""Reads a label store of format 3 with numpy, xxhash and zstandard alone: the specification beside it, as a program.

``Store("labels").read(row)`` is a record, ``find(tokens)`` the row of a sequence. Step by step as the page has it, and
slow. T positions of a sequence, E entries of a record.
"""

import json
import struct
from pathlib import Path

import numpy as np
import xxhash
import zstandard

LEVELS, IDS = tuple(f"levels_{band}" for band in range(8)), tuple(f"ids_{part}" for part in range(5))
DRAWN = ("drawn_once", "drawn_more", "kinds", "counts", "top", "others", "singles", "places")
LARGEST = ("sizes", "sizes_high", "kinds", "tail", *LEVELS, *IDS, "tail_bits", "levels_places", "ids_places")
SIDE = ("entropy", "gold", "rank", "missed", "entropy_bits", "gold_bits", "rank_bits", "rank_rest", "missed_places")
NATS = np.append((np.arange(448) / 128) ** 2, (447 / 128) ** 2 + 0.5 * np.arange(1, 65)).astype(np.float32)


def packed(data, widths, order="little"):
    """Numbers of so many bits each: packed places (lowest bit first), or a column of bits (``big``: highest first)."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder=order).astype(int)
    parts = [bits[end - width : end] for end, width in zip(np.cumsum(widths), widths, strict=True)]
    return np.array([one[:: 1 if order == "little" else -1] @ (1 << np.arange(len(one))) for one in parts], int)


class Store:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.manifest = json.loads((self.folder / "manifest.json").read_text())
        if (self.manifest["format"], self.manifest["schema"]) != ("stillroom-labels", 3):
            raise ValueError(f"{folder}: is no label store of format 3")
        self.length, self.has_tail = self.manifest["sequence_length"], self.manifest["labels"]["codec"] != "sampled"
        data = (self.folder / "codebook.bin").read_bytes()
        if xxhash.xxh3_64_digest(data[:-8]) != data[-8:]:
            raise ValueError("codebook.bin: does not match its checksum")
        self.parts, body, start = {}, zstandard.decompress(data[:-8]), 0
        while start < len(body):
            begin, size = start + 5 + body[start], struct.unpack_from("<I", body, start + 1)[0]
            self.parts[body[start + 5 : begin].decode()], start = body[begin : begin + size], begin + size
        kinds, vocab, gaps, shifts = struct.unpack_from("<BIII", self.parts["rankings"])
        columns = np.frombuffer(self.parts["rankings"], np.uint8, offset=13).astype(int)
        level, _, gap, shift = np.split(columns, np.cumsum([vocab, 2 * kinds, gaps]))
        self.shared, by_rank = np.argsort(-level, kind="stable"), np.zeros(vocab * kinds, int)
        by_rank[np.cumsum(gap)[gap < 255] + np.arange(shifts)] = shift
        score = level[self.shared] + 2 * by_rank.reshape(vocab, kinds).T
        self.order = self.shared[np.argsort(-score, axis=1, kind="stable")]  # ids by rank, of every kind
        index, self.index, at = (self.folder / "index.bin").read_bytes(), [], 24
        for kind in ("<u8", "<u8", "<u4", "<u4", "<u8"):  # halves of the key, shard, length, offset
            self.index.append(np.frombuffer(index, kind, *struct.unpack_from("<Q", index, 16), at))
            at += self.index[-1].nbytes

    def find(self, tokens):
        """The row of the sequence of these ids (T,); ``LookupError`` where it has no labels."""
        high, low = struct.unpack(">QQ", xxhash.xxh3_128_digest(np.ascontiguousarray(tokens, "<i4")))
        return int(np.flatnonzero((self.index[0] == high) & (self.index[1] == low))[0])

    def read(self, row):
        """Tokens, entropy, gold log-probability and rank (T,) of a record; ids and weights, an array to a position."""
        high, low, shard, length, offset = (int(column[row]) for column in self.index)
        record = (self.folder / f"shards/{shard:08d}.bin").read_bytes()[offset : offset + length]
        if xxhash.xxh3_64_digest(struct.pack(">QQ", high, low) + record[:-8]) != record[-8:]:
            raise ValueError(f"shard {shard}: record {row} does not match its checksum")
        names = (*(LARGEST if self.has_tail else DRAWN), *SIDE)
        sizes = np.frombuffer(record, f"<u{record[0]}", len(names), 1).astype(int)
        ends = 1 + record[0] * len(names) + np.cumsum(sizes)
        self.columns = {name: record[end - size : end] for name, end, size in zip(names, ends, sizes, strict=True)}
        return self._largest() if self.has_tail else self._drawn()

    def _symbols(self, name, count):
        usual, *code = self.parts[f"dictionary.{name}"]
        if not self.columns[name]:
            return np.full(count, usual)
        dictionary = zstandard.ZstdCompressionDict(bytes(code)) if code else None
        reader = zstandard.ZstdDecompressor(dictionary, format=zstandard.FORMAT_ZSTD1_MAGICLESS)
        return np.frombuffer(reader.decompress(self.columns[name], max_output_size=count), np.uint8).astype(int)

    def _groups(self, name, steps, sizes, kinds):
        """First rank and bits (2, E) of the group of every member of some sets."""
        last, found = sum(part.startswith(f"groups.{name}.") for part in self.parts) - 1, [np.zeros((2, 0), int)]
        for size, kind, end in zip(sizes, kinds, np.cumsum(sizes), strict=True):
            part = self.parts[f"groups.{name}.{min(max(int(size), 1).bit_length() - 1, last)}"]
            lengths = np.frombuffer(part, "<u2", 1 if name == "missed" else len(self.order)).astype(int)
            bits = np.frombuffer(part, np.uint8, lengths[kind], 2 * len(lengths) + lengths[:kind].sum()).astype(int)
            group = np.cumsum(steps[end - size : end]) % 256
            found.append(np.stack([np.cumsum(1 << bits) - (1 << bits), bits])[:, group])
        return np.concatenate(found, 1)

    def _drawn(self):
        once, more, kinds = (self._symbols(name, self.length) for name in DRAWN[:3])
        more = (more + np.frombuffer(self.parts["more_guess"], np.uint8)[once] - 64) % 256
        sizes = {"singles": once, "others": more - (more > 0), "top": 1 * (more > 0)}
        at = np.repeat(np.tile(np.arange(self.length), 3), np.concatenate(list(sizes.values())))
        groups = [self._groups(name, self._symbols(name, n.sum()), n, kinds) for name, n in sizes.items()]
        first, bits = np.concatenate(groups, 1)
        ids = self.order[kinds[at], first + packed(self.columns["places"], bits)]
        counts = self._symbols("counts", sizes["others"].sum()) + 2
        other = np.bincount(np.repeat(np.arange(self.length), sizes["others"]), counts, self.length).astype(int)
        size, (draws,) = once + more, struct.unpack("<I", self.parts["samples"])
        drawn = np.concatenate([np.ones(once.sum(), int), counts, (draws - once - other)[more > 0]])
        order = np.lexsort((np.repeat([2, 1, 0], [n.sum() for n in sizes.values()]), at))  # top, others, singles
        return self._side(ids[order], drawn[order] * np.float32(1 / draws), drawn[order], size, (0 * drawn, size))

    def _largest(self):
        low, high, kinds, tail_level = (self._symbols(name, self.length) for name in LARGEST[:4])
        tail_level = 4 * tail_level + packed(self.columns["tail_bits"], np.full(self.length, 2), "big")
        band = np.searchsorted(np.frombuffer(self.parts["bands"], "<u2"), tail_level, "right")
        size, (steps,) = 1 + low + 256 * high, struct.unpack("<I", self.parts["value_steps"])
        at, member = np.repeat(np.arange(self.length), size), np.concatenate([np.arange(one) for one in size])
        level, step = 0 * member, 0 * member
        for number, name in enumerate(LEVELS):
            here = band[at] == number
            found = self._symbols(name, here.sum() if steps > 15 else (here.sum() + 1) // 2)
            level[here] = found if steps > 15 else np.stack([found & 15, found >> 4], 1).reshape(-1)[: here.sum()]
        bits = (level[level >= 32] - 16) >> 3
        level[level >= 32] = (level[level >= 32] - 8 - 8 * bits << bits) + packed(self.columns["levels_places"], bits)
        for number, name in enumerate(IDS):
            here = np.searchsorted([0, 1, 4, 12, 25], member, "right") - 1 == number
            step[here] = self._symbols(name, here.sum())
        first, bits = self._groups("ids", step, size, kinds)
        ids = self.order[kinds[at], first + packed(self.columns["ids_places"], bits)]
        value, tail = np.frombuffer(self.parts["values"], "<f4")[level], np.exp(-NATS[tail_level])
        weights = value * ((1 - tail) / np.add.reduceat(value, np.cumsum(size) - size))[at]
        highest = np.maximum.reduceat(level, np.cumsum(size) - size)
        return self._side(ids, weights, level + 1, size, (level, 32 * band + (highest >> 3))) | {"tail": tail}

    def _side(self, ids, weights, known, size, context):
        """``known``: what the guess of a next token goes by; ``context``: what orders places, and guesses entropy."""
        start, at = np.cumsum(size) - size, np.repeat(np.arange(self.length), size)
        pairs = np.frombuffer(self.parts["pairs.ranks"], "<i4", offset=2).reshape(2, -1)
        rank, rest = self._symbols("rank", self.length), np.frombuffer(self.columns["rank_rest"], "u1, <u2")
        number, place = np.pad(pairs, ((0, 0), (0, 256 - pairs.shape[1])))[:, rank]
        number[rank == 128], place[rank == 128] = rest["f0"], rest["f1"]
        gold_rank, bits = number - 1, number[number >= 32] - 27
        gold_rank[number >= 32] = (1 << bits) - 1 + packed(self.columns["rank_bits"], bits)
        entry = np.lexsort((-context[0], at))[start + np.maximum(place, 1) - 1]  # the next token's, where it is there
        guesses = {"entropy": np.minimum(context[1], 255), "gold": np.minimum(known[entry], 255) * (place > 0)}
        nats = {}
        for name, by in guesses.items():
            upper = self._symbols(name, self.length) + np.frombuffer(self.parts[f"{name}_guess"], np.uint8)[by] - 64
            nats[name] = NATS[2 * (upper % 256) + packed(self.columns[f"{name}_bits"], 0 * upper + 1, "big")]
        is_missed = np.append(True, place[:-1] == 0)
        ones, tokens = np.ones(is_missed.sum(), int), np.append(0, ids[entry[:-1]])
        first, bits = self._groups("missed", self._symbols("missed", len(ones)), ones, 0 * ones)
        tokens[is_missed] = self.shared[first + packed(self.columns["missed_places"], bits)]
        nats["gold_logprob"] = np.where(gold_rank < 0, 0, -nats.pop("gold"))
        found = {"ids": np.split(ids, start[1:]), "weights": np.split(weights, start[1:])}
        return found | nats | {"tokens": tokens, "gold_rank": gold_rank}
