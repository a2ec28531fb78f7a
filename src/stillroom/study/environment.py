"""What numbers were made with: ``environment.json`` of every run folder."""

from __future__ import annotations

import datetime
import platform
from importlib.metadata import version

import stillroom
from stillroom.cores import num_cores
from stillroom.results import Environment
from stillroom.study.identities import source_hash


def this_environment(precision: str = "") -> Environment:
    """This release, its source, the libraries and the machine; ``precision`` is what ``auto`` stood for."""
    import torch

    return Environment(
        stillroom=stillroom.__version__,
        torch=torch.__version__,
        python=platform.python_version(),
        processor=torch.cpu.get_capabilities().get("cpu_name") or platform.machine(),
        cores=num_cores(),
        precision=precision,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        others={"numpy": version("numpy"), "source": source_hash()},
    )
