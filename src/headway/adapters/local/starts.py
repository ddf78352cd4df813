"""How a replica's process comes to be: forked from its version's template, or spawned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headway.adapters.local.launch import Launcher
from headway.adapters.local.memory_limit import MemoryWatch, prefer_as_victim, set_data_limit
from headway.adapters.local.process import ReplicaProcess
from headway.adapters.local.records import ReplicaFolder, ReplicaRecord
from headway.adapters.local.start_slots import StartSlots
from headway.adapters.local.template_process import ForkedStart
from headway.adapters.local.templates import Templates
from headway.domain.replicas import ReplicaTransition
from headway.ports.clock import Clock


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all supervisors of a runtime share."""

    clock: Clock
    launcher: Launcher
    memory: MemoryWatch
    slots: StartSlots
    templates: Templates
    emit: Callable[[ReplicaTransition], None]
    backoff_reset_s: float


@dataclass(frozen=True, slots=True)
class Start:
    """A process that is on its way to serve."""

    process: ReplicaProcess
    forked: ForkedStart | None
    """None: it is no fork."""
    cold: bool
    """It is news that replicas of this version cannot be forks."""


async def start(
    around: Surroundings,
    folder: ReplicaFolder,
    record: ReplicaRecord,
    argv: list[str],
    on_exit: Callable[[], None],
) -> Start:
    """Start the replica of ``record``, whose orders are written. Raises ``OSError`` when there is no process."""
    spec, template = record.spec, around.templates.of(record.spec)
    made: ForkedStart | ReplicaProcess | str | None = None
    if template is not None:
        made = await template.fork(folder.config, spec.replica_id, on_exit)
        if not isinstance(made, ForkedStart):
            _note(folder, template.unfit or str(made))
    cold = template is not None and template.tell_unfit()
    if not isinstance(made, ForkedStart | ReplicaProcess):
        env = around.launcher.environment(spec)
        made = ReplicaProcess.spawn(argv, env=env, cwd=folder.path, log=folder.log, on_exit=on_exit)
    process = made.process if isinstance(made, ForkedStart) else made
    prefer_as_victim(process.pid)
    if spec.memory_bytes is not None:
        set_data_limit(process.pid, spec.memory_bytes)
    return Start(process, made if isinstance(made, ForkedStart) else None, cold)


def _note(folder: ReplicaFolder, reason: str) -> None:
    """Where the replica's owner looks: why it started cold."""
    with folder.log.open("a") as file:
        file.write(f"headway: not forked from a process that has loaded the model: {reason}\n")
