"""Builds, loads and exports causal language models; weights travel as safetensors only."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.disk import let_all_read
from stillroom.files import fingerprint
from stillroom.models.architectures import new_config
from stillroom.models.contract import checked
from stillroom.models.fresh import Drawing, plan_new
from stillroom.models.loading import local_files, read_model
from stillroom.models.locate import quiet
from stillroom.models.meta import ModelPlan, plan_fresh, plan_pretrained, realise, thaw_padding
from stillroom.models.model_config import ModelConfig
from stillroom.models.packing import needs_rows
from stillroom.models.verdicts import is_remembered, remember
from stillroom.types import OWN_IDS, SpecialIds, UserError


def plan_model(
    config: ModelConfig,
    vocab_size: int,
    seed: int,
    base_width: int | None = None,
    special: SpecialIds = OWN_IDS,
    teacher: str | Path | None = None,
) -> ModelPlan:
    """The plan of a model that takes no memory yet: a fresh one, or the pretrained one that ``config.path`` names.

    ``teacher`` is the model whose weights a student is cut from, where ``config`` asks for that.
    """
    if config.path is not None:
        return plan_pretrained_model(config.path)
    if config.has_llama_sizes and config.initialisation == "stillroom":
        return plan_fresh(config, vocab_size, seed, base_width, special)
    drawing, made = Drawing(seed, base_width, config.initialisation), new_config(config, vocab_size, special)
    if not config.is_cut:
        return plan_new(made, drawing)
    if teacher is None:
        raise UserError("like_teacher: weights are cut from a teacher, and none is given; set weights to random.")
    return plan_new(made, drawing, functools.partial(load_model, teacher))


def plan_pretrained_model(path: str | Path) -> ModelPlan:
    """The plan of a pretrained model, which the first rank will read in the precision of its file."""
    dtype = torch.float32 if Path(path).suffix == ".gguf" else "auto"
    return plan_pretrained(path, lambda: load_model(path, dtype=dtype))


def build_model(
    config: ModelConfig,
    vocab_size: int,
    seed: int,
    base_width: int | None = None,
    special: SpecialIds = OWN_IDS,
    teacher: str | Path | None = None,
) -> PreTrainedModel:
    """A model in fp32: fresh, with weights that depend on the arguments alone (see ``plan_fresh``), or the pretrained
    one that ``config.path`` names. ``special`` are the ids of the tokenizer that a fresh one
    is trained on: one of this package's, unless told otherwise. ``teacher`` is as in ``plan_model``.
    """
    if config.path is not None:
        return load_model(config.path)
    return checked(realise(plan_model(config, vocab_size, seed, base_width, special, teacher)), "model")


def load_model(path: str | Path, *, dtype: torch.dtype | Literal["auto"] = torch.float32) -> PreTrainedModel:
    """A pretrained model from a folder, GGUF file or hub id, in evaluation mode; code from the folder is never run.

    ``dtype`` ``auto`` keeps the precision of its file. Raises ``UserError`` where not every weight of the model comes
    from its files, where its logits are not what it gives itself (see ``contract``), and for what ``checks`` refuses.
    What was found right is not looked for again while the files stay as they are.
    """
    with quiet():
        model = thaw_padding(read_model(path, dtype))
    files, found = local_files(path), f"logits as {model.dtype} by {_code()}"
    if files and is_remembered(files, found):
        return model
    checked(model, str(path))
    if files and not needs_rows(model):  # what was found to need them must be found again
        remember(files, found)
    return model


@functools.cache
def _code() -> str:
    """What decides how a model is run: the code of this room and the libraries below it."""
    sources = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))]
    return fingerprint([torch.__version__, transformers.__version__, *sources])


def give_ids(model: PreTrainedModel, special: SpecialIds) -> None:
    """Names the ids that open, close and pad a text where a pretrained model names none, so that it ends its texts."""
    marks = {"bos_token_id": special.bos, "eos_token_id": special.eos}
    pad = {"pad_token_id": special.eos if special.pad is None else special.pad}
    for part, ids in ((model.config.get_text_config(), marks), (model.generation_config, marks | pad)):
        for name, number in ids.items():
            if part is not None and getattr(part, name, None) is None and number is not None:
                setattr(part, name, number)


def export_model(model: PreTrainedModel, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
    """Writes weights (safetensors) and configuration for ``AutoModelForCausalLM.from_pretrained``.

    ``weights`` takes the place of the model's own state where those are sharded. It generates with a cache, whatever it
    was trained with.
    """
    for part in (model.config, model.config.get_text_config(), model.generation_config):
        if getattr(part, "use_cache", True) is False:
            part.use_cache = True
    with quiet():
        model.save_pretrained(folder, state_dict=weights)
    for path in folder.glob("*.safetensors"):
        let_all_read(path)  # the library leaves them readable by their owner alone
