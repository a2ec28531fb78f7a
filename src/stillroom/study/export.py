"""What is left of a run for others: a Hugging Face folder with weights, tokenizer, configuration and a model card.

    model.safetensors  config.json  tokenizer files   what AutoModelForCausalLM and AutoTokenizer load
    further_heads.safetensors                         blocks of the heads beyond the next token's, where there are any;
                                                      config.json then says ``further_heads: {num, file}``
    README.md                                         results and the recipe

While a run is under way its folder holds what a checkpoint lacks for that: ``start.json`` and ``architecture/``.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stillroom.checksums import require
from stillroom.config import RunConfig
from stillroom.corpora.tokenizer import load_tokenizer, save_opening, special_ids, with_marks
from stillroom.disk import copy_inside
from stillroom.files import (
    check_new_folder,
    folder_aside,
    read_json,
    read_json_lines,
    read_json_object,
    shaped,
    write_json,
    write_text,
)
from stillroom.models import empty_model, export_model, libraries, read_config, read_weights, shallower
from stillroom.models.model_config import ModelConfig, heads_that_do_not_fit
from stillroom.objectives.schedules import highest_alpha
from stillroom.places import RunPart, find_part, find_parts
from stillroom.strict import parse, to_yaml
from stillroom.training.checkpoint import Checkpoints, CheckpointState, found, load_tensors
from stillroom.training.distributed import Ranks
from stillroom.training.mtp_heads import FurtherHeads
from stillroom.types import UserError
from stillroom.yamlfiles import read_yaml

ARCHITECTURE, START, FURTHER_HEADS = "architecture", "start.json", "further_heads.safetensors"


def gathered(model: nn.Module, ranks: Ranks) -> dict[str, Tensor] | None:
    """A module's state, whole and on the processor, on the first rank; None on the others. All ranks must call it."""
    whole: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        full = value.full_tensor() if isinstance(value, DTensor) else value
        if ranks.is_first:
            whole[name] = full.detach().cpu()
    return whole if ranks.is_first else None


class StartRecord(TypedDict):
    """``start.json``: what is known of a run when it begins."""

    parameters: int
    distinct_tokens: int
    corpus: NotRequired[str]


class RunRecord(StartRecord):
    """``result.json``: what a run came to; ``validation_ce`` in nats per token."""

    tokens: int
    steps: int
    seconds: float
    validation_ce: float | None
    unfinished: NotRequired[bool]


def describe_start(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, record: StartRecord
) -> None:
    """Writes down what a checkpoint of the run in ``folder`` needs beside itself to be exported.

    ``model`` may be on the meta device.
    """
    model.config.save_pretrained(folder / ARCHITECTURE)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder / ARCHITECTURE)
    save_opening(tokenizer, folder / ARCHITECTURE)
    write_json(folder / START, record)


def forget_start(folder: Path) -> None:
    """Removes what ``describe_start`` wrote: a finished run has ``model/`` and ``result.json``."""
    shutil.rmtree(folder / ARCHITECTURE, ignore_errors=True)
    (folder / START).unlink(missing_ok=True)


def export_run(
    folder: Path,
    run: RunConfig,
    record: RunRecord,
    model: PreTrainedModel,
    weights: dict[str, Tensor],
    further: dict[str, Tensor] | None = None,
) -> None:
    """Writes weights, configuration and card into ``folder``, which has the tokenizer already or gets it after.

    ``weights`` are the model's, whole; ``further`` those of its ``FurtherHeads``.
    """
    export_model(model, folder, weights)
    if further:
        save_file({name: value.contiguous() for name, value in further.items()}, folder / FURTHER_HEADS)
        note = {"num": run.objective.heads - 1, "file": FURTHER_HEADS}
        write_json(folder / "config.json", read_json_object(folder / "config.json") | {"further_heads": note})
    write_text(folder / "README.md", model_card(run, record))


def load_further_heads(folder: Path, model: PreTrainedModel) -> FurtherHeads:
    """The further heads that were exported beside ``model``; with them it trains on or predicts tokens further ahead.

    They give their hidden states by ``FurtherHeads.hidden_states(model, batch, isolate)``.
    """
    note = read_json_object(folder / "config.json", "the configuration of an exported model").get("further_heads")
    if note is None:
        raise UserError(f"{folder}: was exported without further heads; train with objective.heads above 1.")
    if not isinstance(note, dict) or not isinstance(note.get("num"), int) or note.get("file") != FURTHER_HEADS:
        raise UserError(
            f"{folder / 'config.json'}: further_heads is {note!r}; expected {{num, file}} with file {FURTHER_HEADS}."
        )
    heads = FurtherHeads(model, note["num"])
    weights = read_weights(folder / FURTHER_HEADS)
    with libraries(folder / FURTHER_HEADS, "further heads", f"the {note['num']} that config.json names"):
        heads.load_state_dict(weights)
    return heads.eval()


@dataclass(frozen=True)
class Exported:
    """A model that was written: where, and the step of its checkpoint, None where the run was finished."""

    folder: Path
    step: int | None


def export_models(given: str | Path, target: Path, step: int | None = None) -> list[Exported]:
    """Exports the model that ``RUN:NAME`` or a training's folder names to ``target``, which must be new or empty.

    ``RUN`` alone is its student; of several, and of its teacher, each goes into ``target/NAME``.
    """
    found = find_parts("training", given)
    students = [one for one in found if one.name != "teacher"]
    if len(students) == 1 or len(found) == 1:
        return [_export_part((students or found)[0], target, step)]
    if step is not None:
        raise UserError(f"--step {step}: {given} has several models; name one as RUN:NAME.")
    check_new_folder(target)
    return [_export_part(one, target / one.name, None) for one in found if (Path(one.path) / "config.yaml").is_file()]


def _export_part(part: RunPart, target: Path, step: int | None) -> Exported:
    run = Path(part.path)
    if part.run is None or (run / "config.yaml").is_file():
        return Exported(target, export_run_folder(run, target, step))
    model = Path(find_part("model", str(part)).path)
    if not (model / "config.json").is_file():
        raise UserError(f"{part}: was not trained here, it is {model}; load it from there.")
    with _new_folder(target) as scratch:
        require(model)
        copy_inside(model, scratch)
    return Exported(target, None)


def export_run_folder(run: Path, target: Path, step: int | None = None) -> int | None:
    """Exports the folder of a training, finished or under way, to ``target``, which must be new or empty.

    Returns the step of the checkpoint that was exported; None for a finished run.
    """
    if (run / "model" / "config.json").is_file() and (run / "result.json").is_file():
        if step is not None:
            raise UserError(f"--step {step}: {run} is a finished run, whose checkpoints are gone; leave --step out.")
        export_finished(run, target)
        return None
    if not (run / START).is_file():
        raise UserError(f"{run}: is no folder of a training run; give one that stillroom train made.")
    return export_checkpoint(run, target, step)


def export_finished(run: Path, target: Path) -> None:
    """Copies the model of a finished run's folder to ``target``, which must be new or empty."""
    with _new_folder(target) as scratch:
        require(run / "model")
        copy_inside(run / "model", scratch)
        _give_own_ids(scratch, _run_config(run))


def export_checkpoint(run: Path, target: Path, step: int | None = None) -> int:
    """Exports a run under way as it was at ``step``, or at its newest undamaged checkpoint; returns the step.

    ``run`` is the run's folder, which a process may go on training in meanwhile.
    """
    checkpoint, state = _checkpoint(run, step)
    config = _run_config(run)
    model = empty_model(read_config(run / ARCHITECTURE), run / ARCHITECTURE)
    tensors = load_tensors(checkpoint, "model.")
    parts = {
        prefix: {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        for prefix in ("model.model.", "model.further.")
    }
    with shaped(checkpoint / "state.json", "the state of a checkpoint"):
        step, seconds = int(state["step"]), float(state["seconds"])
    with shaped(run / "metrics.jsonl", "the metrics of the run"):
        results = _results(run, step, seconds)
    record = cast(RunRecord, read_json_object(run / START) | results)  # what it lacks, the card finds
    with shaped(run / START, "what the run wrote when it began"):
        model_card(config, record)  # before anything is written
    with _new_folder(target) as scratch:
        copy_inside(run / ARCHITECTURE, scratch)
        export_run(scratch, config, record, model, parts["model.model."], parts["model.further."])
        _give_own_ids(scratch, config)
    return step


def _run_config(run: Path) -> RunConfig:
    """What a run's folder says was trained."""
    values = read_yaml(run / "config.yaml", "the run's configuration")
    without_kind = {name: value for name, value in values.items() if name != "kind"} if isinstance(values, dict) else []
    return parse(RunConfig, without_kind, str(run / "config.yaml"))


def _give_own_ids(folder: Path, run: RunConfig) -> None:
    """Mends what earlier versions wrote: ids of this package's own tokenizers for every tokenizer, no cache, and a
    tokenizer that did not open a text as every document was. What a pretrained model brought along stays.
    """
    if run.model.path is not None or not (folder / "tokenizer.json").is_file():
        return
    tokenizer = with_marks(load_tokenizer(folder))
    ids = special_ids(tokenizer)
    save_opening(tokenizer, folder)
    for name, pad in (("config.json", ids.pad), ("generation_config.json", ids.eos if ids.pad is None else ids.pad)):
        if (folder / name).is_file():
            carried = {"bos_token_id": ids.bos, "eos_token_id": ids.eos, "pad_token_id": pad, "use_cache": True}
            write_json(folder / name, read_json_object(folder / name) | carried)


def _checkpoint(run: Path, step: int | None) -> tuple[Path, CheckpointState]:
    """The checkpoint of a step, or the newest undamaged one, and its state."""
    checkpoints = Checkpoints(run / "checkpoints")
    if step is None:
        newest = checkpoints.latest()
        if newest is None:
            raise UserError(f"{run}: holds neither a model/ nor a checkpoint yet; let the run go on for a while.")
        return newest
    steps = {int(path.name.removeprefix("step-")): path for path in found(run / "checkpoints")}
    if step not in steps:
        kept = ", ".join(map(str, steps)) or "none"
        raise UserError(f"--step {step}: {run} keeps no checkpoint of that step, but of these: {kept}.")
    if not checkpoints.is_whole(steps[step]):
        raise UserError(f"--step {step}: {steps[step]} is damaged; choose another step.")
    return steps[step], read_json(steps[step] / "state.json")


def _results(run: Path, step: int, seconds: float) -> dict[str, object]:
    """What the metrics say of a run up to a step."""
    written: list[dict[str, Any]] = read_json_lines(run / "metrics.jsonl")
    records = [record for record in written if record["step"] <= step]
    validations = [record["ce"] for record in records if record["kind"] == "validation"]
    tokens = [record["tokens"] for record in records if record["kind"] == "train"]
    return {
        "tokens": tokens[-1] if tokens else 0,
        "steps": step,
        "seconds": seconds,
        "validation_ce": validations[-1] if validations else None,
        "unfinished": True,
    }


@contextlib.contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A scratch folder that becomes ``target``; refuses to replace what is there."""
    check_new_folder(target)
    with contextlib.suppress(OSError):
        target.rmdir()
    with folder_aside(target) as scratch:
        yield scratch


def trunk(config: ModelConfig, heads: int) -> ModelConfig:
    """The model of a run with ``heads``: each head beyond the first has a block that is taken off the trunk."""
    if problem := heads_that_do_not_fit(config, heads):
        raise UserError(f"objective.{problem}.")
    if heads == 1:
        return config
    if config.has_llama_sizes:
        return config.model_copy(update={"num_layers": config.num_layers - (heads - 1)})
    return config.model_copy(update={"config": shallower(config, heads - 1)})


def model_card(run: RunConfig, record: RunRecord) -> str:
    """The README of an exported model: what it is, how it did, and the recipe that makes it again."""
    objective = run.objective
    alpha = highest_alpha(objective)
    taught = "hard labels alone" if alpha == 0 else f"soft labels with weight {alpha:g}"
    if objective.routing is not None:
        taught += f", routing {objective.routing.rule} ({objective.routing.share:.0%} of the positions)"
    if objective.heads > 1:
        taught += f", {objective.heads} tokens ahead"
    rows = {
        "parameters": f"{record['parameters']:,}",
        "distinct tokens": f"{record['distinct_tokens']:,}",
        "tokens seen": f"{record['tokens']:,} in {record['steps']:,} steps",
        "validation cross-entropy": "not measured yet",
        "training time": f"{record['seconds']:.0f} s",
    }
    if record["validation_ce"] is not None:
        rows["validation cross-entropy"] = f"{record['validation_ce']:.4f} nats per token"
    if record.get("unfinished"):
        rows["state"] = "a checkpoint of a run under way"
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
