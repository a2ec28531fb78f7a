"""More arms from one: an arm for every value of a field, named after it, and every arm at several seeds. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from stillroom.config import ArmConfig, StudyConfig, arm_and_seed, over_seeds, override, parse
from stillroom.strict import nearest
from stillroom.types import UserError

_FORM = "arms.NAME.FIELD=VALUE,VALUE,..."
Values = tuple[str, list[str]]
"""A field of an arm, and its values as they were typed."""


def swept(config: StudyConfig, sweeps: Sequence[str], seeds: int | None = None) -> StudyConfig:
    """The study with a swept arm replaced by one for every value, or every combination of values of several fields.

    Arguments:
        config: the study.
        sweeps: ``arms.dpt90.alpha=0.3,0.6,0.9`` and the like; the arms are then ``dpt90-alpha0.3`` and so on.
        seeds: how many seeds every arm is trained at, from 0; the arms are then ``spt-s0``, ``spt-s1`` and so on.
    """
    asked: dict[str, list[Values]] = {}
    for sweep in sweeps:
        arm, field, values = _parsed(sweep, config)
        if field in dict(asked.get(arm, ())):
            raise UserError(f"--sweep {sweep}: {field} of {arm} is swept twice; give all values at once.")
        asked.setdefault(arm, []).append((field, values))
    arms: dict[str, ArmConfig] = {}
    for name, arm in config.arms.items():
        arms |= dict(_arms_of(config, name, asked[name])) if name in asked else {name: arm}
        if arm.like in asked:
            raise UserError(f"--sweep: arm {name} is like {arm.like}, which is swept; name one that stays as it is.")
    if seeds is not None:
        arms = over_seeds(_without_seeds(arms), range(seeds))
    return parse(
        StudyConfig, config.model_dump() | {"arms": {name: arm.model_dump() for name, arm in arms.items()}}, "--sweep"
    )


def _parsed(sweep: str, config: StudyConfig) -> tuple[str, str, list[str]]:
    """The arm, its field and the values of ``arms.NAME.FIELD=VALUE,VALUE``."""
    place, sign, text = sweep.partition("=")
    parts = place.strip().split(".")
    values = [value.strip() for value in text.split(",")]
    if not sign or parts[0] != "arms" or len(parts) < 3 or "" in (*parts, *values):
        raise UserError(f"--sweep {sweep}: expected {_FORM}; other fields are shared by all arms.")
    name = next((one for one in config.arms if place.strip().startswith(f"arms.{one}.")), parts[1])
    if name not in config.arms:
        raise UserError(f"--sweep {sweep}: there is no arm {name!r}{nearest(name, list(config.arms))}.")
    return name, place.strip().removeprefix(f"arms.{name}."), values


def _arms_of(config: StudyConfig, name: str, asked: list[Values]) -> Iterator[tuple[str, ArmConfig]]:
    fields = [field for field, _ in asked]
    seen: dict[str, str] = {}
    for values in product(*(values for _, values in asked)):
        pairs = list(zip(fields, values, strict=True))
        arm = _changed(config, name, pairs)
        called = name + "".join(f"-{field.rpartition('.')[2]}{value}" for field, value in pairs)
        if (twin := seen.get(arm.fingerprint())) is not None:
            raise UserError(f"--sweep arms.{name}: {twin} and {called} are one arm; give every value once.")
        seen[arm.fingerprint()] = called
        yield called, arm


def _changed(config: StudyConfig, name: str, pairs: list[tuple[str, str]]) -> ArmConfig:
    """An arm with some fields set; names with points in them are no obstacle."""
    alone = config.model_copy(update={"arms": {"arm": config.arms[name].model_copy(update={"like": None})}})
    try:
        changed = override(alone, [f"arms.arm.{field}={value}" for field, value in pairs]).arms["arm"]
    except UserError as error:
        raise UserError(str(error).replace("--set", "--sweep").replace("arms.arm", f"arms.{name}")) from error
    return changed.model_copy(update={"like": config.arms[name].like})


def _without_seeds(arms: dict[str, ArmConfig]) -> dict[str, ArmConfig]:
    for name, arm in arms.items():
        if arm.seed is not None or arm_and_seed(name)[1] is not None:
            raise UserError(f"--seeds: arm {name} has a seed of its own; leave --seeds out, or take that away.")
    return arms
