"""What ``stillroom sandbox bigram`` can be asked for, and the arms that the sweep makes of it."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stillroom.config import Strict
from stillroom.sandbox.bigram.tabular import Arm, TabularRouting, parse_routing
from stillroom.strict import Fraction, Positive, PositiveFloat, Seed, Temperature
from stillroom.types import UserError
from stillroom.worlds.bigram import BigramOptions, BigramWorld, bigram_world
from stillroom.worlds.bigram_teachers import EXACT, parse_teacher
from stillroom.worlds.bigram_text import library_text, load_matrix, text_world

Alphas = Annotated[tuple[Fraction, ...], Field(min_length=1)]
_LEAK_SHOWN = 0.1
"""The leak nearest to this is drawn as the imperfect teacher of the curves."""


class BigramSweep(Strict):
    """A bigram world, the arms that learn it, and on how many samples and seeds."""

    world: str = "drawn"
    """``drawn`` with the options below, ``characters`` or ``words`` of the Python library, or a ``.npy`` matrix."""
    states: Annotated[int, Field(ge=2, le=5000)] = 100
    """K, the tokens."""
    high_share: Fraction = 0.5
    """Part of the rows that are high-entropy (``drawn``)."""
    support: Annotated[int, Field(ge=0, le=5000)] = 0
    """Next tokens of a high-entropy row (``drawn``); 0 means all."""
    concentration: PositiveFloat = 1.0
    """Dirichlet concentration of the rows (``drawn``)."""
    high_entropy: Annotated[float, Field(ge=-1e6, le=1e6)] = -1.0
    """Entropy of the high-entropy rows (``drawn``), nats; negative means as drawn."""
    low_entropy: Annotated[float, Field(ge=0.0, le=1e6)] = 0.0
    """Entropy of the low-entropy rows (``drawn``), nats; 0 means one certain next token."""
    split_nats: PositiveFloat = 2.0
    """Entropy above which a row of a given matrix or of text counts as high-entropy."""
    world_seed: Seed = 0
    visits: Literal["uniform", "stationary"] = "uniform"
    """How often each row is met: all alike, or as a long walk meets them."""
    samples: Annotated[tuple[Annotated[int, Field(gt=0, le=10**12)], ...], Field(min_length=1)] = (
        *(100, 300, 1_000, 3_000, 10_000, 30_000),
        *(100_000, 300_000, 1_000_000),
    )
    """Sizes of the training sample, transitions."""
    alphas: Alphas = (0.0, 0.5, 0.9)
    """Weights of the teacher's label."""
    teachers: Annotated[tuple[str, ...], Field(min_length=1)] = (
        *("exact", "uniform:0.05", "uniform:0.1", "uniform:0.2"),
        *("context:0.1", "samples:10000", "rank:10"),
    )
    temperatures: Annotated[tuple[Temperature, ...], Field(min_length=1)] = (1.0, 2.0)
    """Softmax temperatures of the teacher."""
    routings: Annotated[tuple[str, ...], Field(min_length=1)] = ("none", "0.15", "0.5", "random:0.5")
    hard_weight: Literal["restore", "keep"] = "restore"
    """Weight of the hard label on a routed sample: back to 1, or still 1 - α."""
    seeds: Annotated[int, Field(ge=1, le=1000)] = 10
    """Independent samples of every size."""
    ks: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 4, 8, 16, 32, 64)
    """Draws of pass@k."""
    ratio_supports: tuple[Annotated[int, Field(ge=2, le=5000)], ...] = (5, 10, 20, 50, 100)
    """p of the sample ratio's worlds, which have ``states`` tokens; empty leaves the ratio out."""
    ratio_tolerances: Annotated[tuple[Annotated[float, Field(gt=0.0, lt=0.5)], ...], Field(min_length=1)] = (
        *(0.05, 0.1, 0.2),
    )
    """ε: mean total variation that counts as learnt."""
    gradient_samples: Annotated[int, Field(ge=0, le=10**9)] = 100_000
    """Samples of the softmax table that learns by gradient; 0 leaves it out."""
    gradient_seeds: Annotated[int, Field(gt=0, le=1000)] = 3
    transformer_tokens: Annotated[int, Field(ge=0, le=10**12)] = 200_000
    """Training tokens of a one-layer transformer for each of a few arms; 0 leaves it out."""
    transformer_seeds: Annotated[int, Field(gt=0, le=1000)] = 1

    @model_validator(mode="after")
    def _words_are_understood(self) -> Self:
        for text in self.teachers:
            parse_teacher(text)
        for text in self.routings:
            parse_routing(text)
        if self.hard_weight == "keep" and 1.0 in self.alphas and set(self.routings) != {"none"}:
            raise ValueError("hard_weight keep with an alpha of 1 leaves routed samples without a label; take restore")
        if list(self.samples) != sorted(set(self.samples)):
            raise ValueError("samples must rise, each size once")
        too_wide = [number for number in (self.support, *self.ratio_supports) if number > self.states]
        if too_wide:
            raise ValueError(f"a support of {too_wide[0]} next tokens does not fit into {self.states} states")
        return self

    def arms(self) -> tuple[Arm, ...]:
        """Every combination once; without weight on the teacher there is one arm only, SPT."""
        teachers, routings = map(parse_teacher, self.teachers), map(parse_routing, self.routings)
        found: dict[str, Arm] = {}
        for alpha, teacher, temperature, routing in product(self.alphas, teachers, self.temperatures, routings):
            arm = Arm(alpha, teacher, temperature, routing, self.hard_weight) if alpha else Arm()
            found.setdefault(arm.name, arm)
        return tuple(sorted(found.values(), key=lambda arm: arm.alpha))

    def drawn_arms(self) -> tuple[Arm, ...]:
        """At most seven arms that the curves show: SPT, exact teachers, and one imperfect teacher, routed and not."""
        arms = [arm for arm in self.arms() if arm.temperature == self.temperatures[0] or not arm.alpha]
        most = max(self.alphas)
        leaks = sorted({arm.teacher.leak for arm in arms} - {0.0}, key=lambda leak: abs(leak - _LEAK_SHOWN))
        kinds = [arm.teacher for arm in arms if arm.teacher.leak == (leaks[0] if leaks else 0.0) and arm.alpha]
        imperfect = kinds[0] if kinds else EXACT
        plain = [arm for arm in arms if not arm.alpha or (arm.teacher == EXACT and arm.routing == TabularRouting())]
        routed = [arm for arm in arms if arm.alpha == most and arm.teacher == imperfect]
        return tuple(dict.fromkeys([*plain, *routed]))[:7]

    def transformer_arms(self) -> tuple[Arm, ...]:
        """The arms that a transformer learns: hard labels, and the most weight on the exact and imperfect teacher."""
        drawn, most = self.drawn_arms(), max(self.alphas)
        plain = [arm for arm in drawn if arm.routing.rule == "none" and arm.alpha in (0.0, most)]
        routed = [arm for arm in drawn if arm.routing.rule == "low-entropy"]
        return tuple([*plain, *routed[-1:]])

    def make_world(self) -> BigramWorld:
        """The world; a ``UserError`` names the field or file that does not fit."""
        if self.world in ("characters", "words"):
            return text_world(library_text(), self.world, self.states, self.split_nats)  # type: ignore[arg-type]
        if self.world != "drawn":
            if not self.world.endswith(".npy"):
                raise UserError(
                    f"--world: is {self.world!r}, expected drawn, characters, words or the path of a .npy matrix."
                )
            return load_matrix(Path(self.world), self.split_nats)
        try:
            return bigram_world(self.options())
        except ValueError as error:
            raise UserError(f"sandbox bigram: {error}; change the world's options.") from None

    def options(self) -> BigramOptions:
        """The knobs of the drawn world."""
        return BigramOptions(
            states=self.states, high_share=self.high_share, support=self.support, concentration=self.concentration,
            high_entropy=self.high_entropy, low_entropy=self.low_entropy, seed=self.world_seed,
        )  # fmt: skip
