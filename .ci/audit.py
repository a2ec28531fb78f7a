"""Known weaknesses of what requirements.lock pins: make audit. One sentence says so where nobody can be asked.

python .ci/audit.py requirements.lock
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

UNREACHABLE = (
    "ConnectionError",
    "Max retries exceeded",
    "ServiceError",
    "Could not connect",
    "timed out",
    "ProxyError",
)


def main() -> None:
    """Ends with 1 where something is known; with 0 where nothing is, or nobody could be asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lock", type=Path)
    lock = parser.parse_args().lock
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner", "off", "-r", lock]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
        print("audit: the service of known weaknesses cannot be reached from here, so nothing was audited.")
        return
    print(done.stdout, done.stderr, sep="", end="")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
