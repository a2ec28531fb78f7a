"""A Slurm of two nodes and a Ray of two cores on this machine, for tests: started, told by an environment, stopped.

Slurm is Debian's (slurmctld, slurmd, slurm-client, munge), without systemd and without accounts. Needs root.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

NODES = ("d1", "d2")
CONFIG = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=d1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 State=UNKNOWN
NodeName=d2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 State=UNKNOWN
PartitionName=all Nodes=d1,d2 Default=YES MaxTime=INFINITE State=UP
"""


def missing(on: str) -> str:
    """What a test on this scheduler lacks here; empty where it lacks nothing."""
    package = {"slurm": "submitit", "ray": "ray"}[on]
    if importlib.util.find_spec(package) is None:
        return f"pip install {package}"
    if on == "ray":
        return ""
    programs = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if shutil.which(name) is None]
    if programs:
        return "apt-get install slurmctld slurmd slurm-client munge"
    return "" if os.getuid() == 0 else "run as root"


@contextlib.contextmanager
def cluster(on: str, folder: Path) -> Iterator[dict[str, str]]:
    """The variables by which a process finds the scheduler that runs while the block does."""
    with (slurm if on == "slurm" else ray)(folder) as found:
        yield os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | found


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Slurm; ``SLURM_CONF`` tells where it is."""
    folder.mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=socket.gethostname(), folder=folder, ports=free_ports(3)))
    (folder / "state").mkdir()
    found = {"SLURM_CONF": str(config)}
    munge = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munge += [f"--{kind}-file={folder}/munge.{kind}" for kind in ("pid", "log", "seed")]
    munge.append(f"--socket={folder}/munge.socket")
    commands = [
        munge,
        ["slurmctld", "-D", "-f", str(config)],
        *(["slurmd", "-D", "-N", name, "-f", str(config)] for name in NODES),
    ]
    started = []
    try:
        for command in commands:
            started.append(
                subprocess.Popen(command, env=os.environ | found, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            time.sleep(0.5)
        _wait_for_nodes(os.environ | found)
        yield found
    finally:
        with contextlib.suppress(OSError):
            subprocess.run(["scancel", "--me"], env=os.environ | found, capture_output=True)
        for process in reversed(started):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def _wait_for_nodes(environment: dict[str, str]) -> None:
    deadline = time.monotonic() + 60
    while True:
        said = subprocess.run(["sinfo", "-h", "-N", "-o", "%T"], env=environment, capture_output=True, text=True)
        if said.stdout.split() == ["idle"] * len(NODES):
            return
        assert time.monotonic() < deadline, said
        time.sleep(0.5)


@contextlib.contextmanager
def ray(folder: Path) -> Iterator[dict[str, str]]:
    """A Ray cluster that outlives its drivers; ``RAY_ADDRESS`` tells where it is."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "ray.scripts.scripts"]
    folder.mkdir(parents=True)
    asked = ["start", "--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"]
    eager = os.environ | {"RAY_worker_niceness": "0"}  # else 15, which a busy machine lets wait
    subprocess.run([*command, *asked], env=eager, check=True, capture_output=True, timeout=120)
    try:
        yield {"RAY_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        subprocess.run([*command, "stop"], capture_output=True, timeout=120)
