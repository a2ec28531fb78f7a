"""Loads models of others by a contract: every weight comes from a file, is a number, and has its place; or a sentence.

The only place, with ``tokenizers``, that calls the loaders of transformers. Code of a folder's own never runs, and
nobody is asked whether it may.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers import __version__ as transformers_version

from stillroom.models.checks import (
    StoredWeight,
    check_config,
    check_file,
    check_types,
    is_finite,
    plain_names,
    stored_weights,
    weight_files,
)
from stillroom.models.locate import Source, alone, find_source, libraries, looks_local
from stillroom.models.verdicts import is_remembered, remember
from stillroom.models.weights import WeightsContract, forget_renamings
from stillroom.types import UserError

EXPECTED_MODEL = f"a causal language model that transformers {transformers_version} reads"
GENERATION = "generation_config.json"
_ASKED = {"output_attentions": False, "output_hidden_states": False, "return_dict": True}
"""What a model is asked for when it is called, which a configuration may hold from whoever saved it."""
_GGUF_NEEDS = "it needs pip install 'stillroom[gguf]'"


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
        config = AutoConfig.from_pretrained(str(source.folder), trust_remote_code=False, local_files_only=True)
    if getattr(config, "is_encoder_decoder", False) and not config.architectures:
        raise UserError(f"{source.given}: is an encoder and a decoder ({config.model_type}); expected a decoder alone.")
    for part in (config, config.get_text_config()):
        for name, value in _ASKED.items():
            if getattr(part, name, value) != value:
                setattr(part, name, value)
    if getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None:
        config._attn_implementation = "eager"  # the fused ones cap no scores
    return config


def modules_of(config: PreTrainedConfig, seed: int | None = None, given: str | Path = "config") -> PreTrainedModel:
    """The modules of a model in fp32: without memory, or with weights that their own code draws from a seed.

    ``given`` is what the user calls the configuration.
    """
    device = "meta" if seed is None else "cpu"
    with libraries(given, "model", EXPECTED_MODEL), torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed or 0)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)


def empty_model(config: PreTrainedConfig, given: str | Path) -> PreTrainedModel:
    """The modules of a model on the meta device, in fp32, with what ``given``, its place, says of generation."""
    model = modules_of(config, given=given)
    folder = find_source(given, weights=False).folder
    if (folder / GENERATION).is_file():
        check_file(folder / GENERATION, "settings of generation")
        with libraries(given, "settings of generation", f"those that transformers {transformers_version} reads"):
            model.generation_config = GenerationConfig.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
    return model


def check_files(path: str | Path) -> dict[str, StoredWeight]:
    """Refuses a model whose files of weights are damaged or not there, by their headers alone.

    Returns what the headers tell, by the names without wrappers; nothing of a GGUF file.
    """
    source = find_source(path)
    if source.gguf is not None:
        check_gguf(source.gguf)
        return {}
    check_config(source)
    stored = stored_weights(weight_files(source))
    check_types(stored)
    return {plain: stored[name] for name, plain in plain_names(stored).items()}


def local_files(path: str | Path) -> list[Path]:
    """The files that decide what a model on this machine is; none of a hub id, whose files change elsewhere."""
    if not looks_local(path):
        return []
    source = find_source(path, weights=False)  # whose content is looked at where they are read
    return [source.gguf] if source.gguf is not None else [*weight_files(source), source.folder / "config.json"]


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
    model = _folder_model(source, config, stored, dtype)
    if not is_remembered(files, f"numbers as {model.dtype}"):
        _check_numbers(source, model, stored)
        remember(files, f"numbers as {model.dtype}")
    return model


def _folder_model(
    source: Source, config: PreTrainedConfig, stored: dict[str, StoredWeight], dtype: torch.dtype | Literal["auto"]
) -> PreTrainedModel:
    contract = WeightsContract(source, stored)
    with libraries(source.given, "model", EXPECTED_MODEL), contract.watched():
        model, report = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
            str(source.folder),
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            key_mapping=contract.renamings(),
            output_loading_info=True,
        )
    contract.check_report(model, report)
    contract.check_ties(model)
    forget_renamings(model)
    return model.eval()


def _check_numbers(source: Source, model: PreTrainedModel, stored: dict[str, StoredWeight]) -> None:
    """Refuses NaN and infinities, of the files or of their conversion to a narrower type."""
    broken = next((name for name, value in model.state_dict().items() if not is_finite(value)), None)
    if broken is not None:
        file = next((one.file for one in stored.values() if one.name.endswith(broken)), source.given)
        raise UserError(f"{file}: {broken} holds NaN or infinities; expected numbers: fetch or save the model again.")


def _gguf_config(file: Path) -> PreTrainedConfig:
    check_gguf(file)
    with reading_gguf(file), alone(file) as (folder, name):
        config = AutoConfig.from_pretrained(folder, gguf_file=name, trust_remote_code=False, local_files_only=True)
    return _as_full_precision(config, file)


def _gguf_model(file: Path, dtype: torch.dtype) -> PreTrainedModel:
    """A model from a GGUF file, as ordinary weights: rebuilt without the quantisation note so that it can be saved."""
    check_gguf(file)
    source = Source(str(file), file.parent, gguf=file)
    contract = WeightsContract(source, {})
    with reading_gguf(file), alone(file) as (folder, name), contract.watched():
        unpacked, report = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
            folder,
            gguf_file=name,
            dtype=dtype,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **_unpacking(),
        )
    contract.check_report(unpacked, report)
    with libraries(file, "model", EXPECTED_MODEL):
        config = _as_full_precision(unpacked.config, file)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
        model.load_state_dict(unpacked.state_dict())
    _check_numbers(source, model, {})
    return model.eval()


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
