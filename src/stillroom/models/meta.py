"""A model before it takes memory: its modules on the meta device, and its weights one after another.

A rank that shards a model so holds its own part and one whole parameter at a time, never the whole model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from stillroom.models.loading import check_files, empty_model, read_config
from stillroom.models.model_config import ModelConfig
from stillroom.models.weights import check_sizes
from stillroom.types import OWN_IDS, SpecialIds, UserError

_NO_IDS = SpecialIds()
_Model = TypeVar("_Model", bound=nn.Module)


@dataclass(frozen=True)
class ModelPlan:
    """What a model will be. ``allocate`` gives its modules memory and ``place`` puts a weight into it."""

    model: PreTrainedModel
    """On the meta device until ``allocate``."""
    weights: Callable[[], Iterator[tuple[str, Tensor]]]
    """Every parameter (and kept buffer) by its name in the model, whole, one at a time."""
    on_every_rank: bool
    """Whether ranks draw the weights each for itself from a seed; else the first reads them and sends them on."""


def llama_config(config: ModelConfig, vocab_size: int, special: SpecialIds = _NO_IDS) -> LlamaConfig:
    """The transformers configuration of a model in the Llama layout.

    ``special`` are its tokenizer's ids, with which ``generate`` begins, ends and pads; where there is none, none are.
    """
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads or config.num_heads,
        max_position_embeddings=config.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        tie_word_embeddings=config.tie_embeddings,
        bos_token_id=special.bos,
        eos_token_id=special.eos,
        pad_token_id=special.pad,
    )


def plan_fresh(
    config: ModelConfig,
    vocab_size: int,
    seed: int,
    base_width: int | None = None,
    special: SpecialIds = OWN_IDS,
) -> ModelPlan:
    """A new model in fp32 whose weights depend on these arguments alone.

    Matrices are normal with standard deviation 0.02; those that write into the residual stream are divided by
    sqrt(2·layers) (GPT-2, section 2.3), so that its variance does not grow with depth. Norms are 1.

    With ``base_width`` what a layer gives at the start does not grow with width D either (μP: Yang et al. 2022,
    2203.03466, table 8): with r = base_width / D, matrices inside blocks are multiplied by sqrt(r), and logits by r,
    for which the final norm begins at r instead of 1. At D = base_width nothing changes. ``special`` changes no weight.
    """
    with _on_meta():
        model = thaw_padding(LlamaForCausalLM(llama_config(config, vocab_size, special)))
    pad_as_generate_does(model)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    narrower = 1.0 if base_width is None else base_width / config.hidden_size

    def weights() -> Iterator[tuple[str, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        for name, shape in shapes.items():
            if len(shape) < 2:
                yield name, torch.full(shape, narrower if name == "model.norm.weight" else 1.0)
            else:
                is_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = initial_scale(".layers." in name, config.num_layers if is_residual else None, narrower)
                yield name, torch.empty(shape).normal_(0.0, scale, generator=generator)

    return ModelPlan(model.train(), weights, on_every_rank=True)


def thaw_padding(model: _Model) -> _Model:
    """The model, with no row of its embeddings kept from its gradient.

    The layouts of transformers freeze the row of the padding id, which in many tokenizers is also the end of a document
    or an ordinary token.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.padding_idx = None
    return model


def initial_scale(is_inside: bool, num_layers: int | None, narrower: float) -> float:
    """Standard deviation that a matrix begins with: inside a block or not, of one that writes into the residual stream
    with the number of layers that do.
    """
    return (
        0.02 * (narrower**0.5 if is_inside else 1.0) * ((2 * num_layers) ** -0.5 if is_inside and num_layers else 1.0)
    )


def pad_as_generate_does(model: PreTrainedModel) -> None:
    """Names the id that ``generate`` would pad with, and say so every time, where the tokenizer has none for it."""
    if model.generation_config is not None and model.config.pad_token_id is None:
        model.generation_config.pad_token_id = model.config.eos_token_id


def plan_pretrained(path: str | Path, read: Callable[[], PreTrainedModel]) -> ModelPlan:
    """The model of a folder, hub id or GGUF file, in fp32 and in evaluation mode; ``read`` loads it whole.

    Raises ``UserError`` as ``read_model`` does: for damaged files at once, for what they hold when they are read.
    """
    stored = check_files(path)
    model = thaw_padding(empty_model(read_config(path), path))
    check_sizes(path, model, stored)

    def weights() -> Iterator[tuple[str, Tensor]]:
        parameters = {name for name, _ in model.named_parameters()}
        wanted = parameters | {name for name, _ in model.named_buffers()}
        whole = read().state_dict()
        if unread := sorted(parameters - whole.keys()):
            raise UserError(f"{path}: {unread[0]} was not read; expected every weight that its config.json calls for.")
        for name, value in whole.items():
            if name in wanted:  # the second name of a tied weight is not
                yield name, value.float() if value.is_floating_point() else value

    return ModelPlan(model.eval(), weights, on_every_rank=False)


@contextlib.contextmanager
def _on_meta() -> Iterator[None]:
    """Modules made inside take no memory and draw nothing from the caller's random state."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        yield


def allocate(model: PreTrainedModel, module: nn.Module, device: torch.device) -> None:
    """Gives what is on the meta device in ``module`` memory on ``device``: parameters empty, buffers as the model's own
    code computes them. ``module`` is ``model`` or holds it; parameters may be sharded, and tied ones stay tied.
    """
    made: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is None or not parameter.is_meta:
                continue
            if id(parameter) not in made:
                empty = torch.empty_like(parameter, device=device)
                made[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
            part._parameters[name] = made[id(parameter)]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for part in module.modules():
            missing = {name: value for name, value in part._buffers.items() if value is not None and value.is_meta}
            for name, value in missing.items():
                part._buffers[name] = torch.zeros_like(value, device=device)
            if missing:  # such as the frequencies of rotary positions, which no file holds
                model._init_weights(part)


@torch.no_grad()
def place(target: Tensor, whole: Tensor) -> None:
    """Copies a whole weight, or of it what belongs to this rank, into a parameter or buffer."""
    if isinstance(target, DTensor):
        local = distribute_tensor(whole.to(target.device), target.device_mesh, target.placements, src_data_rank=None)
        target.to_local().copy_(local.to_local())
    else:
        target.copy_(whole)


def realise(plan: ModelPlan, device: torch.device | None = None) -> PreTrainedModel:
    """The model of a plan, whole and in this process."""
    model = plan.model
    allocate(model, model, device or torch.device("cpu"))
    targets = dict([*model.named_parameters(), *model.named_buffers()])
    for name, whole in plan.weights():
        place(targets[name], whole)
    return model
