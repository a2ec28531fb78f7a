"""What a suite of measurements is, and which there are.

A suite is one file: its configuration, the items that it makes of it, and what it measures on them. One of this package
is ``suites/NAME.py`` with its object under ``SUITE``; a package of someone else's names its own under the entry
point ``stillroom.suites``, whose name is the suite's. Imports no torch: a configuration is read without measuring.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from stillroom.evaluation import suites
from stillroom.registry import entries_of, load_entry
from stillroom.results.schema import SampledProblem
from stillroom.strict import Seed, Strict, nearest, parse
from stillroom.types import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from stillroom.evaluation.measuring.language_modelling import Heldout
    from stillroom.evaluation.sampling.draw import Sampler
    from stillroom.types import OnProgress

_MOST_ITEM_TOKENS = 100_000_000
ItemTokens = dict[str, list[list[int]]]
"""Kind of item → token ids of every item, with its right answer where it has one."""


class SuiteConfig(Strict):
    """What every suite is asked for; a suite's own class adds what it needs."""

    seed: Seed = 0
    """Of items and samples."""


C = TypeVar("C", bound=SuiteConfig)


class Need(NamedTuple):
    """A field of the configuration, with its value where that tells, and the tokens that its longest item takes."""

    field: str
    tokens: int
    advice: str = "shorten or leave out what needs it"


@dataclass(frozen=True)
class Material:
    """What items are made of: the same for every model that is compared."""

    tokenizer: PreTrainedTokenizerBase
    corpus_text: Heldout | None = None
    """Held-out text of the corpus that models were trained on; None where no corpus is given."""
    worlds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Options of the worlds that the corpus has text of, by kind, so that items come from what was trained on."""

    @property
    def heldout(self) -> Heldout:
        """The held-out text, for a suite that needs a corpus; ``UserError`` where none was given."""
        if self.corpus_text is None:
            raise UserError("evaluate: --corpus is missing; give the folder of a built corpus.")
        return self.corpus_text


@dataclass(frozen=True)
class SuiteResult:
    """Parts of ``evaluation.json``, each a dataclass of estimates, and the samples that they are of."""

    parts: Mapping[str, object]
    samples: Sequence[SampledProblem] = ()
    """Lines of the suite's ``samples_file``."""


class Suite(ABC, Generic[C]):
    """Measurements that are asked for by one name and kept in one file."""

    name: ClassVar[str]
    config: type[C]
    """Of the fields of ``EvaluationConfig`` where that has them, else of ``options.NAME`` there."""
    needs_corpus: ClassVar[bool] = True

    @property
    def samples_file(self) -> str:
        """The file of its samples beside ``evaluation.json``."""
        return f"samples-{self.name}.jsonl"

    def check(self, model: PreTrainedModel) -> None:
        """Refuses a model that it cannot measure, by a ``UserError``, before any suite is begun."""

    def lengths(self, config: C) -> Iterator[Need]:
        """What its items take by the configuration alone; refuses items that cannot be drawn."""
        yield from ()

    def longest(self, config: C, material: Material) -> Iterator[Need]:
        """What its items take, drawn as they will be measured: what cannot be drawn is refused here as there."""
        yield from ()

    def item_tokens(self, config: C, material: Material) -> ItemTokens:
        """Its items in tokens, to be looked for in the training text."""
        return {}

    @abstractmethod
    def measure(
        self, model: PreTrainedModel, config: C, material: Material, sampler: Sampler, progress: OnProgress | None
    ) -> SuiteResult:
        """What the model can do; deterministic per seed, and the model is left as it was.

        ``sampler`` draws samples where it needs some (``sampling.draw.sample``, or another process).
        """

    def config_in(self, asked: Strict) -> C:
        """Its own configuration, out of that of a whole evaluation."""
        if isinstance(asked, self.config):
            return asked
        given = {"seed": getattr(asked, "seed", 0)} | getattr(asked, "options", {}).get(self.name, {})
        return parse(self.config, given, f"evaluation.options.{self.name}")


def refuse_too_many(fields: str, tokens: int) -> None:
    """``ValueError`` where the items of a measure, which are held in memory, are too many tokens together."""
    if tokens > _MOST_ITEM_TOKENS:
        raise ValueError(f"{fields} make {tokens:,} tokens, expected at most {_MOST_ITEM_TOKENS:,}; lower one")


def is_suite(name: str) -> bool:
    """Whether there is a suite of this name."""
    return name in _own() or name in _others()


def suite_names() -> list[str]:
    """Every suite that may be asked for: of this package, then of others."""
    own = _own()
    return [*own, *sorted(_others().keys() - set(own))]


def find_suite(name: str) -> Suite[Any]:
    """The suite of this name; ``UserError`` where there is none or it cannot be loaded."""
    if name in _own():
        return importlib.import_module(f"{suites.__name__}.{name}").SUITE
    if name not in (others := _others()):
        raise UserError(f"suites: {name!r} is no suite{nearest(name, suite_names())}.")
    suite = load_entry(others[name])
    if not isinstance(suite, Suite):
        raise UserError(f"suites: {name!r} ({others[name].value}) is {type(suite).__name__}, expected a Suite.")
    return suite


def _own() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(suites.__path__)]


def _others() -> dict[str, EntryPoint]:
    return entries_of("stillroom.suites")
