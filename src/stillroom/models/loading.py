"""Loads models of others by a contract: every weight comes from a file, is a number, and has its place; or a sentence.

The only place, with ``tokenizers``, that calls the loaders of transformers. Code of a folder's own never runs, and
nobody is asked whether it may.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers import __version__ as transformers_version

from stillroom.models.checks import (
    StoredWeight,
    check_config,
    check_file,
    check_types,
    first_not_finite,
    is_finite,
    plain_names,
    stored_weights,
    weight_files,
)
from stillroom.models.sources import Source, alone, find_source, libraries
from stillroom.types import UserError

EXPECTED_MODEL = f"a causal language model that transformers {transformers_version} reads"
_GGUF_NEEDS = "it needs pip install 'stillroom[gguf]'"
_DERIVED = re.compile(r"(^|\.)(rotary_emb\.(inv_freq|cos_cached|sin_cached)|position_ids)$")
_MASK = re.compile(r"\.(attn|attention|self_attn)\.(masked_)?bias$")
_OURS = "(?#stillroom{})"
"""Marks renamings of this package among those of transformers, and tells equal ones apart."""
_PATCHING = threading.Lock()


def read_config(path: str | Path) -> PreTrainedConfig:
    """The configuration of a causal language model: of a folder, hub id or GGUF file.

    Raises ``UserError`` for whatever is not one, or cannot be read as it is.
    """
    return _config(find_source(path, weights=False))


def _config(source: Source) -> PreTrainedConfig:
    if source.gguf is not None:
        return _gguf_config(source.gguf)
    check_config(source)
    with libraries(source.given, "configuration", EXPECTED_MODEL):
        return AutoConfig.from_pretrained(str(source.folder), trust_remote_code=False, local_files_only=True)


def empty_model(config: PreTrainedConfig, given: str | Path) -> PreTrainedModel:
    """The modules of a model on the meta device, in fp32; ``given`` names it in sentences."""
    with libraries(given, "model", EXPECTED_MODEL), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)


def check_files(path: str | Path) -> None:
    """Refuses a model whose files of weights are damaged or not there, by their headers alone."""
    source = find_source(path)
    if source.gguf is not None:
        check_gguf(source.gguf)
    else:
        check_config(source)
        check_types(stored_weights(weight_files(source)))


def read_model(path: str | Path, dtype: torch.dtype | Literal["auto"]) -> PreTrainedModel:
    """The model of a folder, hub id or GGUF file in evaluation mode, with the weights of its files alone.

    ``dtype`` ``auto`` keeps the precision of its files. Raises ``UserError`` where a weight is missing, has no place or
    another shape than the configuration says, is NaN or infinite, and for all that ``checks`` refuses.
    """
    source = find_source(path)
    if source.gguf is not None:
        return _gguf_model(source.gguf, torch.float32 if dtype == "auto" else dtype)
    config, files = _config(source), weight_files(source)
    stored = stored_weights(files)
    check_types(stored)
    with ThreadPoolExecutor(1) as beside:  # while transformers builds the modules
        broken = beside.submit(first_not_finite, files)
        model = _folder_model(source, config, stored, dtype)
        with libraries(path, "weights", "safetensors files, undamaged: fetch or save them again"):
            found = broken.result()
    _check_numbers(found, model, stored)
    return model


def _folder_model(
    source: Source, config: PreTrainedConfig, stored: dict[str, StoredWeight], dtype: torch.dtype | Literal["auto"]
) -> PreTrainedModel:
    contract = _Contract(source, stored)
    with libraries(source.given, "model", EXPECTED_MODEL), contract.watched():
        model = AutoModelForCausalLM.from_pretrained(
            str(source.folder),
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            key_mapping=contract.renamings(),
        )
    contract.check_ties(model)
    _forget_renamings(model)
    return model.eval()


def _check_numbers(found: str | None, model: PreTrainedModel, stored: dict[str, StoredWeight]) -> None:
    """Refuses NaN and infinities, in the files and where the conversion to a narrower type makes them."""
    if found is None and (model.dtype == torch.float16 or any(one.dtype == "F64" for one in stored.values())):
        found = next((name for name, value in model.state_dict().items() if not is_finite(value)), None)
        found = found and f"{model.config.name_or_path}: {found}"
    if found is not None:
        raise UserError(f"{found} holds NaN or infinities; expected numbers: fetch or save the model again.")


class _Contract:
    """What must hold between the names in a folder's files and the modules that its configuration makes."""

    def __init__(self, source: Source, stored: dict[str, StoredWeight]) -> None:
        self.source, self.stored = source, stored
        self.plain = plain_names(stored)
        self._check_names_apart()
        self.tied: dict[str, str] = {}

    def _check_names_apart(self) -> None:
        by_plain: dict[str, str] = {}
        for name, plain in self.plain.items():
            if (other := by_plain.setdefault(plain, name)) != name:
                raise UserError(f"{self.source.given}: holds both {other} and {name}, which are one weight; keep one.")

    def renamings(self) -> dict[str, str] | None:
        """Patterns that take wrappers off the stored names, as transformers wants them; None where there are none."""
        if all(name == plain for name, plain in self.plain.items()):
            return None
        inside = r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
        most = max(name.count(".") - plain.count(".") for name, plain in self.plain.items())
        wrapper = rf"(?:{inside}|^module\.)" if any(name.startswith("module.") for name in self._outer()) else inside
        return {_OURS.format(number) + wrapper: "" for number in range(most)}

    def _outer(self) -> Iterator[str]:
        for name, plain in self.plain.items():
            yield name.removesuffix(plain).replace("_orig_mod.", "").replace("_fsdp_wrapped_module.", "")

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Checks what transformers found before it fills what is missing with random numbers.

        It has no public way to stop there; where the private one is gone the check comes after.
        """
        with _PATCHING:
            original: Any = PreTrainedModel._finalize_model_loading

            def checked(model: PreTrainedModel, load_config: Any, info: Any) -> Any:
                self.check(model, info)
                return original(model, load_config, info)

            PreTrainedModel._finalize_model_loading = staticmethod(checked)  # pyright: ignore[reportAttributeAccessIssue]
            try:
                yield
            finally:
                PreTrainedModel._finalize_model_loading = staticmethod(original)  # pyright: ignore

    def check(self, model: PreTrainedModel, info: Any) -> None:
        """Refuses a model that would not hold exactly what its files hold."""
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
            raise UserError(f"{self.source.given}: {what} could not be read ({text}); expected {EXPECTED_MODEL}.")
        self._check_types(model)

    def _check_shapes(self, mismatched: Collection[tuple[str, Any, Any]]) -> None:
        for name, found, wanted in sorted(mismatched, key=str):
            raise UserError(
                f"{self.source.given}: {name} has shape {tuple(found)}, but its config.json makes it {tuple(wanted)}; "
                "expected config.json and weights of one model: fetch or save them together."
            )

    def _missing(self, model: PreTrainedModel, names: Collection[str]) -> list[str]:
        """Names that no file holds, but for weights tied to one that is there and buffers that are computed."""
        buffers = {name for name, _ in model.named_buffers()}
        ignored = _pattern(model, "_keys_to_ignore_on_load_missing")
        groups: dict[str, set[str]] = {}
        for target, origin in self.tied.items():
            groups.setdefault(origin, {origin}).add(target)
        there = {name for group in groups.values() if any(one not in names for one in group) for name in group}
        return sorted(
            name for name in names if name not in there and not (name in buffers and ignored and ignored.search(name))
        )

    def _is_known_extra(self, model: PreTrainedModel, name: str) -> bool:
        """Whether a stored tensor without a place is one that the model computes: positions, masks, by its own list."""
        if (known := _pattern(model, "_keys_to_ignore_on_load_unexpected")) and known.search(name):
            return True
        shapes = {weight.shape for stored, weight in self.stored.items() if name.endswith(self.plain[stored])}
        is_mask = _MASK.search(name) is not None and all(len(shape) in (0, 4) or shape == (1,) for shape in shapes)
        return is_mask or _DERIVED.search(name) is not None

    def _check_types(self, model: PreTrainedModel) -> None:
        """Refuses whole numbers where the model has fractions: quantised weights without a word in config.json."""
        wanted = model.state_dict()
        for weight in self.stored.values():
            target = wanted.get(self.plain[weight.name])
            if target is not None and target.is_floating_point() and weight.dtype[0] not in "FB":
                raise UserError(
                    f"{weight.file}: {weight.name} is stored as {weight.dtype}; expected F32, F16 or BF16: give the "
                    "model in full precision."
                )

    def check_ties(self, model: PreTrainedModel) -> None:
        """Refuses weights that the configuration makes one and the files make two; nothing stays without memory."""
        held = dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])
        for target, origin in self.tied.items():
            if held[target] is not held[origin]:
                raise UserError(
                    f"{self.source.given}: {target} and {origin} differ, but its config.json ties them; expected "
                    "tie_word_embeddings: false or one matrix: save the model again."
                )
        if empty := [name for name, value in held.items() if value.is_meta]:
            raise UserError(f"{self.source.given}: {empty[0]} was not read; expected {EXPECTED_MODEL}.")


def _pattern(model: PreTrainedModel, name: str) -> re.Pattern[str] | None:
    """A model class's own list of names, as one pattern."""
    patterns = getattr(model, name, None)
    return re.compile("|".join(f"(?:{one})" for one in patterns)) if patterns else None


def _listed(names: list[str]) -> str:
    """The first few names and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _forget_renamings(model: PreTrainedModel) -> None:
    """Takes this package's renamings from the model, which would be turned round when it is saved."""
    kept = getattr(model, "_weight_conversions", None)
    if kept:
        model._weight_conversions = [one for one in kept if not _is_ours(one)]  # pyright: ignore


def _is_ours(conversion: Any) -> bool:
    mark = _OURS.split("{")[0]
    return any(mark in str(pattern) for pattern in getattr(conversion, "_original_source_patterns", ()))


def _gguf_config(file: Path) -> PreTrainedConfig:
    check_gguf(file)
    with reading_gguf(file), alone(file) as (folder, name):
        config = AutoConfig.from_pretrained(folder, gguf_file=name, trust_remote_code=False, local_files_only=True)
    return _as_full_precision(config, file)


def _gguf_model(file: Path, dtype: torch.dtype) -> PreTrainedModel:
    """A model from a GGUF file, as ordinary weights: rebuilt without the quantisation note so that it can be saved."""
    check_gguf(file)
    contract = _Contract(Source(str(file), file.parent, gguf=file), {})
    with reading_gguf(file), alone(file) as (folder, name), contract.watched():
        unpacked = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=name, dtype=dtype, trust_remote_code=False, local_files_only=True, **_unpacking()
        )
    weights = unpacked.state_dict()
    with libraries(file, "model", EXPECTED_MODEL):
        config = _as_full_precision(unpacked.config, file)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
        model.load_state_dict(weights)
    _check_numbers(_not_finite(file, weights), model, {})
    return model.eval()


def _not_finite(file: Path, weights: dict[str, Tensor]) -> str | None:
    return next((f"{file}: {name}" for name, value in weights.items() if not is_finite(value)), None)


def _unpacking() -> dict[str, Any]:
    """Asks transformers to unpack the blocks of a GGUF file as it is read, where it would otherwise fetch kernels."""
    import transformers

    made = getattr(transformers, "GgufConfig", None)
    return {} if made is None else {"quantization_config": made(dequantize=True)}


def check_gguf(file: Path) -> None:
    """Refuses a file that is none of GGUF by its first bytes."""
    check_file(file, "a GGUF file")
    with file.open("rb") as handle:
        if handle.read(4) != b"GGUF":
            raise UserError(f"{file}: does not begin as a GGUF file does; expected a GGUF file: fetch it again.")


@contextlib.contextmanager
def reading_gguf(file: Path) -> Iterator[None]:
    """``libraries``, which says where a package is missing what to install."""
    try:
        with libraries(file, "model", "a whole GGUF file of a causal language model"):
            yield
    except UserError as error:
        text = str(error.__cause__)
        if isinstance(error.__cause__, ImportError) or "accelerate is required" in text or "install" in text:
            first = text.strip().split("\n", 1)[0].rstrip(".")
            raise UserError(f"{file}: cannot be read ({first}); {_GGUF_NEEDS}.") from error
        raise


def _as_full_precision(config: PreTrainedConfig, file: Path) -> PreTrainedConfig:
    config.__dict__.pop("quantization_config", None)
    config.name_or_path = str(file)
    return config
