"""What is left of a run for others: whole weights, and a model card that says how they came about."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from stillroom.config import ModelConfig, RunConfig, to_yaml
from stillroom.training.distributed import Ranks
from stillroom.types import UserError


def gathered(model: PreTrainedModel, ranks: Ranks) -> dict[str, Tensor] | None:
    """The model's state, whole and on the processor, on the first rank; None on the others. All ranks must call it."""
    whole: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        full = value.full_tensor() if isinstance(value, DTensor) else value
        if ranks.is_first:
            whole[name] = full.detach().cpu()
    return whole if ranks.is_first else None


def trunk(config: ModelConfig, heads: int) -> ModelConfig:
    """The model of a run with ``heads``: each head beyond the first has a block that is taken off the trunk."""
    if heads == 1:
        return config
    if config.path is not None or config.num_layers < heads:
        found = f"model.path {config.path}" if config.path is not None else f"{config.num_layers} layers"
        raise UserError(
            f"objective.heads: is {heads}, which takes {heads - 1} blocks off the trunk, but the model is {found}; "
            "train a new model with at least as many layers as heads."
        )
    return config.model_copy(update={"num_layers": config.num_layers - (heads - 1)})


def model_card(run: RunConfig, record: dict[str, Any]) -> str:
    """The README of an exported model: what it is, how it did, and the recipe that makes it again."""
    objective = run.objective
    taught = "hard labels alone" if objective.alpha == 0 else f"soft labels with weight {objective.alpha:g}"
    if objective.routing is not None:
        taught += f", routing {objective.routing.rule} ({objective.routing.share:.0%} of the positions)"
    if objective.heads > 1:
        taught += f", {objective.heads} tokens ahead"
    rows = {
        "parameters": f"{record['parameters']:,}",
        "distinct tokens": f"{record['distinct_tokens']:,}",
        "tokens seen": f"{record['tokens']:,} in {record['steps']:,} steps",
        "validation cross-entropy": f"{record['validation_ce']:.4f} nats per token",
        "training time": f"{record['seconds']:.0f} s",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return (
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\n"
        "tags: [stillroom, distilled-pretraining]\n---\n\n"
        f"# {run.name}\n\nA causal language model pretrained with stillroom from {taught}.\n\n"
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained("PATH")\n'
        'tokenizer = AutoTokenizer.from_pretrained("PATH")\n```\n\n'
        f"| | |\n|---|---|\n{table}\n\n## Recipe\n\nSave it as `config.yaml` and run "
        f"`stillroom train config.yaml`.\n\n```yaml\n{to_yaml(run, 'run').strip()}\n```\n"
    )
