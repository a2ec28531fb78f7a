"""Known weaknesses of what requirements.lock pins: make audit. One sentence says so where nobody can be asked.

python .ci/audit.py requirements.lock
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

NOBODY = "audit: the service of known weaknesses cannot be reached from here, so nothing was audited."


def audited(lock: Path) -> list[dict] | None:
    """What is known of each package that the service knows; None where it answers for none."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
    done = subprocess.run([*command, "-f", "json", "-r", lock], capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        print(done.stderr.strip().rpartition("\n")[2])
        return None
    return [one for one in found if "skip_reason" not in one] or None


def main() -> None:
    """Ends with 1 where something is known; with 0 where nothing is, or nobody could be asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lock", type=Path)
    packages = audited(parser.parse_args().lock)
    if packages is None:
        print(NOBODY)
        return
    known = [(one, weakness) for one in packages for weakness in one["vulns"]]
    for one, weakness in known:
        mended = ", ".join(weakness["fix_versions"]) or "no release yet"
        print(f"{one['name']} {one['version']}: {weakness['id']}, mended in {mended}")
    print(f"audit: {len(packages)} packages, {len(known)} known weaknesses.")
    sys.exit(1 if known else 0)


if __name__ == "__main__":
    main()
