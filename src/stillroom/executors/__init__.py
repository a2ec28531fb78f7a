"""Where work is done beside this machine: jobs of Slurm and of Ray, which corpora and studies share.

A job is a command with a log. What it makes appears whole, so whoever started it need not live.
"""

from stillroom.executors.executor import EXECUTORS, Executor, SchedulerJob, executor_named, python_command
from stillroom.executors.resources_config import JobResources, ResourcesConfig

__all__ = [
    "EXECUTORS",
    "Executor",
    "JobResources",
    "ResourcesConfig",
    "SchedulerJob",
    "executor_named",
    "python_command",
]
