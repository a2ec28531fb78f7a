"""Runs the adapters of ``examples/conformance/`` over whatever of the libraries is installed, and freezes the verdicts.

    python benchmarks/conformance.py --out benchmarks/results/conformance-cpu-2026-11-30.json --beside DistillKit
    python docs/peers.py

What is not on PyPI is run from its repository: ``--beside`` puts a checkout on the path.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ADAPTERS = Path(__file__).parents[1] / "examples" / "conformance"
sys.path.insert(0, str(ADAPTERS))
PLACES = {
    "stillroom.conformance.own:adapter": "stillroom",
    "stillroom_trainer_adapter:adapter": "stillroom",
    "hf_trainer_adapter:adapter": "stillroom",
    "trl_adapters:gkd": "trl",
    "trl_adapters:chunked": "trl",
    "trl_trainer_adapter:adapter": "trl",
    "liger_adapters:adapter": "liger-kernel",
    "torchtune_adapters:forward": "torchtune",
    "torchtune_adapters:chunked": "torchtune",
    "torchtune_adapters:reverse": "torchtune",
    "modelopt_adapters:default": "nvidia-modelopt",
    "modelopt_adapters:masked": "nvidia-modelopt",
    "automodel_adapters:adapter": "nemo-automodel",
    "axolotl_adapters:fused": "axolotl",
    "axolotl_adapters:eager": "axolotl",
    "distillkit_adapters:uniform": "DistillKit",
    "distillkit_adapters:zero": "DistillKit",
    "megatron_adapters:adapter": "Megatron-LM",
}
"""Adapter → the library that it is of: a distribution, or a repository of that name where it is on no index."""


def versions(beside: Mapping[str, Path]) -> dict[str, str]:
    """Version, or commit, of every library that is here."""
    found = {}
    for library in dict.fromkeys(PLACES.values()):
        if library in beside:
            head = ["git", "-C", str(beside[library]), "log", "-1", "--format=%h of %cs"]
            found[library] = "commit " + subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
            continue
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def judged(place: str) -> dict[str, Any]:
    """What the adapter is called, its library, and of each property the outcome and its sentence."""
    from stillroom.conformance import all_verdicts, load_adapter

    adapter = load_adapter(place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {one.name: [one.outcome, one.sentence] for one in all_verdicts(adapter)}
    return {"name": adapter.name, "library": PLACES[place], "verdicts": found}


def main() -> None:
    """Runs and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--beside", type=Path, action="append", default=[], help="a checkout, named as its repository")
    parser.add_argument("--only", choices=PLACES, help="run one adapter, and keep what the file says of the others")
    asked = parser.parse_args()
    beside = {path.resolve().name: path.resolve() for path in asked.beside}
    sys.path[:0] = map(str, beside.values())
    found = versions(beside)
    before = json.loads(asked.out.read_text(encoding="utf-8")) if asked.only else {"results": {}, "versions": {}}
    found, results = before["versions"] | found, before["results"]
    for place in [asked.only] if asked.only else PLACES:
        library = PLACES[place]
        begin = time.process_time()
        if library in found:
            results[place] = judged(place)
        print(f"{place}: {f'{time.process_time() - begin:.1f} s' if library in found else 'not here'}", flush=True)
    where = {"python": platform.python_version(), "torch": importlib.metadata.version("torch"), "device": "cpu"}
    results = {place: results[place] for place in PLACES if place in results}
    frozen = {"date": str(datetime.date.today()), **where, "versions": found, "results": results}
    asked.out.write_text(json.dumps(frozen, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
