"""What jobs of a scheduler ask of the machines that they run on."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from stillroom.strict import Count, Positive, Strict


class JobResources(Strict):
    """What one job asks for."""

    cpus: Positive = 1
    """Cores, each with a thread."""
    gpus: Count = 0
    """GPUs, all on one machine."""
    processes: Positive | None = None
    """Processes that ``torchrun`` starts inside of the job; None: one for each GPU, or one alone."""
    memory_gb: Positive | None = None
    """GB of main memory; None: what the scheduler gives."""
    minutes: Positive = 240
    """Time after which Slurm stops the job, which is then queued again and goes on. Ray has no such limit."""
    options: dict[str, str] = Field(default_factory=dict)
    """Further options of ``sbatch``, such as ``partition`` and ``account``; Ray has none."""

    @property
    def ranks(self) -> int:
        """Processes inside of the job."""
        return self.processes or max(1, self.gpus)


class ResourcesConfig(Strict):
    """What the stages of a study ask for as jobs, by their kind (``stillroom study --on slurm``)."""

    corpus: JobResources = JobResources()
    """Of the one job that builds the corpus, with a process for each of its cores."""
    labels: JobResources = JobResources()
    training: JobResources = JobResources()
    """Of the teacher and of every student."""
    evaluation: JobResources = JobResources()
    restarts: Count = 3
    """How often a job that was lost is started again, beside what the scheduler itself queues again."""

    @model_validator(mode="after")
    def _one_process(self) -> Self:
        for kind in ("corpus", "evaluation"):
            if (ranks := getattr(self, kind).ranks) > 1:
                raise ValueError(f"{kind} asks for {ranks} processes or GPUs, but is the work of one process")
        return self
