"""The weights contract: a model holds what its files hold, no more and no less, or it is refused in a sentence.

Every parameter comes from a file and every weight of a file has its place, of the same shape; names may carry the
wrappers of ``torch.compile``, FSDP and DDP.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import PreTrainedModel

from stillroom.models.checks import FRACTIONS, WRAPPER, StoredWeight, plain_names, wrong_type
from stillroom.models.locate import Source
from stillroom.types import UserError

_DERIVED = re.compile(r"(^|\.)(rotary_emb\.(inv_freq|cos_cached|sin_cached)|position_ids)$")
_MASK = re.compile(r"\.(attn|attention|self_attn)\.(masked_)?bias$")
_OURS = "(?#stillroom{})"
"""Marks renamings of this package among those of transformers, and tells equal ones apart."""
_STEP = "_finalize_model_loading"
"""What transformers calls between reading weights and filling up the rest."""
_PATCHING = threading.Lock()


def check_sizes(path: str | Path, model: PreTrainedModel, stored: dict[str, StoredWeight]) -> None:
    """Refuses modules that the configuration makes larger or smaller than the files, before they take memory."""
    for name, value in model.state_dict().items():
        if (weight := stored.get(name)) and math.prod(weight.shape) != value.numel():
            raise _another_shape(path, name, weight.shape, value.shape)


def _another_shape(given: str | Path, name: str, found: Sequence[int], wanted: Sequence[int]) -> UserError:
    return UserError(
        f"{given}: {name} has shape {tuple(found)}, but its config.json makes it {tuple(wanted)}; expected config.json "
        "and weights of one model: fetch or save them together."
    )


class WeightsContract:
    """What must hold between the names in a folder's files and the modules that its configuration makes."""

    def __init__(self, source: Source, stored: dict[str, StoredWeight]) -> None:
        self.source, self.stored = source, stored
        self.plain = plain_names(stored)
        self._check_names_apart()
        self.tied: dict[str, str] = {}
        self.is_checked = False

    def _check_names_apart(self) -> None:
        by_plain: dict[str, str] = {}
        for name, plain in self.plain.items():
            if (other := by_plain.setdefault(plain, name)) != name:
                raise UserError(f"{self.source.given}: holds both {other} and {name}, which are one weight; keep one.")

    def renamings(self) -> dict[str, str] | None:
        """Patterns that take wrappers off the stored names, as transformers wants them; None where there are none."""
        if all(name == plain for name, plain in self.plain.items()):
            return None
        most = max(name.count(".") - plain.count(".") for name, plain in self.plain.items())
        below = any(re.sub(WRAPPER, "", name) != plain for name, plain in self.plain.items())
        wrapper = rf"(?:{WRAPPER}|^module\.)" if below else WRAPPER
        return {_OURS.format(number) + wrapper: "" for number in range(most)}

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Checks what transformers found before it takes memory for what is missing and fills it with random numbers.

        It has no public way to stop there. Where a version has not the private one, ``check_report`` comes after.
        """
        original: Any = getattr(PreTrainedModel, _STEP, None)

        def checked(model: PreTrainedModel, load_config: Any, info: Any) -> Any:
            self.check(model, info)
            return original(model, load_config, info)

        with _PATCHING:
            try:
                if original is not None:
                    setattr(PreTrainedModel, _STEP, staticmethod(checked))
                yield
            finally:
                if original is not None:
                    setattr(PreTrainedModel, _STEP, staticmethod(original))

    def check_report(self, model: PreTrainedModel, report: Mapping[str, object]) -> None:
        """The same from what ``output_loading_info`` gives, where it was not checked on the way."""
        if not self.is_checked:
            self.check(model, SimpleNamespace(conversion_errors={}, **report))

    def check(self, model: PreTrainedModel, info: Any) -> None:
        """Refuses a model that would not hold exactly what its files hold."""
        self.is_checked = True
        self.tied = dict(getattr(model, "all_tied_weights_keys", None) or {})
        self._check_shapes(info.mismatched_keys)
        missing = self._missing(model, info.missing_keys)
        unexpected = sorted(name for name in info.unexpected_keys if not self._is_known_extra(model, name))
        if missing:
            beside = f" but others such as {unexpected[0]}" if unexpected else ""
            raise UserError(
                f"{self.source.given}: holds no weight {_listed(missing)}{beside}; expected every weight of the "
                f"{type(model).__name__} of its config.json: fetch or save the model again."
            )
        if unexpected:
            raise UserError(
                f"{self.source.given}: holds {_listed(unexpected)}, for which the {type(model).__name__} of its "
                "config.json has no place; expected its weights alone: save the model with the class that made it."
            )
        if errors := [*info.conversion_errors.items(), *enumerate(info.error_msgs)]:
            what, text = errors[0]
            raise UserError(
                f"{self.source.given}: {what} could not be read ({text}); expected weights that fit its config.json."
            )
        self._check_types(model)

    def _check_shapes(self, mismatched: Collection[tuple[str, Any, Any]]) -> None:
        for name, found, wanted in sorted(mismatched, key=str):
            raise _another_shape(self.source.given, name, found, wanted)

    def _missing(self, model: PreTrainedModel, names: Collection[str]) -> list[str]:
        """Names that no file holds, but for weights tied to one that is there and buffers that are computed."""
        groups: dict[str, set[str]] = {}
        for target, origin in self.tied.items():
            groups.setdefault(origin, {origin}).add(target)
        there = {name for group in groups.values() if any(one not in names for one in group) for name in group}
        if not (left := sorted(set(names) - there)):
            return []
        buffers = {name for name, _ in model.named_buffers()}
        computed = _pattern(model, "_keys_to_ignore_on_load_missing")
        return [name for name in left if not (name in buffers and computed and computed.search(name))]

    def _is_known_extra(self, model: PreTrainedModel, name: str) -> bool:
        """Whether a stored tensor without a place is one that the model computes: positions, masks, by its own list."""
        if (known := _pattern(model, "_keys_to_ignore_on_load_unexpected")) and known.search(name):
            return True
        shapes = {weight.shape for stored, weight in self.stored.items() if name.endswith(self.plain[stored])}
        is_mask = _MASK.search(name) is not None and all(len(shape) in (0, 4) or shape == (1,) for shape in shapes)
        return is_mask or _DERIVED.search(name) is not None

    def _check_types(self, model: PreTrainedModel) -> None:
        """Refuses whole numbers where the model has fractions: quantised weights without a word in config.json."""
        whole = [weight for weight in self.stored.values() if weight.dtype not in FRACTIONS]
        wanted = model.state_dict() if whole else {}
        for weight in whole:
            target, name = wanted.get(self.plain[weight.name]), self.plain[weight.name]
            if target is None:  # the class may hold it elsewhere, under the same last name
                named = [value for key, value in wanted.items() if key.endswith("." + name.rpartition(".")[2])]
                target = next((value for value in named if not value.is_floating_point()), None)
            if target.is_floating_point() if target is not None else not self._is_known_extra(model, name):
                raise wrong_type(weight)

    def check_ties(self, model: PreTrainedModel) -> None:
        """Refuses weights that the configuration makes one and the files make two."""
        for target, origin in self.tied.items():
            if model.get_parameter(target) is not model.get_parameter(origin):
                raise UserError(
                    f"{self.source.given}: {target} and {origin} differ, but its config.json ties them; expected "
                    "tie_word_embeddings: false or one matrix: save the model again."
                )


def _pattern(model: PreTrainedModel, name: str) -> re.Pattern[str] | None:
    """A model class's own list of names, as one pattern."""
    patterns = getattr(model, name, None)
    return re.compile("|".join(f"(?:{one})" for one in patterns)) if patterns else None


def _listed(names: list[str]) -> str:
    """The first few names and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def forget_renamings(model: PreTrainedModel) -> None:
    """Takes this package's renamings from the model, which would be turned round when it is saved."""
    kept = getattr(model, "_weight_conversions", None)
    if kept:
        model._weight_conversions = [one for one in kept if not _is_ours(one)]  # pyright: ignore


def _is_ours(conversion: Any) -> bool:
    mark = _OURS.split("{")[0]
    return any(mark in str(pattern) for pattern in getattr(conversion, "_original_source_patterns", ()))
