"""Putting into words why a replica did not work: from its failure report, its exit, its stack, its log.

The model server writes a report before it gives up because of the model; then those words are the best. A
process that just ends (``os._exit``, a segmentation fault, a kill) leaves its exit status and its log, one
that hangs leaves the stack that it dumps on SIGUSR2.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.adapters.local import logs
from headway.adapters.local.memory_limit import mebibytes
from headway.adapters.local.process import Exit
from headway.adapters.local.records import ReplicaFolder, ReplicaRecord
from headway.domain.errors import (
    JobTimedOut,
    LoadFailed,
    ModelFailed,
    OutOfMemory,
    SamplePredictionFailed,
    StartTimeout,
)
from headway.domain.replicas import Failure, ReplicaSpec
from headway.server.config import FailureReport

FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS})
"""Signals by which a process fails through its own code."""
_REASONS = {
    LoadFailed.code: "LoadFailed",
    SamplePredictionFailed.code: "SamplePredictionFailed",
    StartTimeout.code: "StartTimeout",
    OutOfMemory.code: "OOMKilled",
    JobTimedOut.code: "JobTimedOut",
}
_MEMORY_ERROR = re.compile(r"\b_?(?:Array)?MemoryError\b")
_MEMORY_HINT = "raise spec.resources.memory, or load less"
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<name>.*)$')
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x")


@dataclass(frozen=True, slots=True)
class Crash:
    """One end of one process: the reason as one word, and the words for the model's owner."""

    reason: str
    failure: Failure
    at_once: bool = False
    """The process was in order and ended because of the job it was at: a fresh one is started without a pause."""


def of_exit(exit_: Exit, folder: ReplicaFolder, record: ReplicaRecord, *, serving: bool) -> Crash:
    """Why a process that was not told to end has ended."""
    tail = logs.tail_text(folder, record.log_inode, record.log_offset)
    report = _report(folder)
    if record.spec.role == "work":
        # It takes jobs as soon as it listens, which may be before the first probe; a start removes an older socket.
        serving = serving or Path(record.socket).exists()
        if report is not None and report.stage == "job":
            failure = Failure(report.code, report.message, where=report.where, hint=report.hint, log_tail=tail)
            return Crash(_REASONS.get(failure.code, "JobEnded"), failure, at_once=True)
        if exit_.signal == signal.SIGALRM and serving:
            text = "a job took longer than its time limit, and the model's code did not let go: the kernel ended it"
            return Crash("JobTimedOut", Failure(JobTimedOut.code, text, log_tail=tail), at_once=True)
    failure = _reported(report, record.spec, tail) or _from_exit(exit_, tail, serving=serving)
    return Crash(_REASONS.get(failure.code, "Error"), failure)


def of_spawn(error: OSError, spec: ReplicaSpec) -> Crash:
    """Why no process came to be."""
    hint = "is the version's environment still there?" if error.filename == spec.python else None
    return Crash("StartError", Failure(ModelFailed.code, f"the process could not be started: {error}", hint=hint))


def of_memory(used: int, folder: ReplicaFolder, record: ReplicaRecord) -> Crash:
    """Why a process was killed by the memory watch."""
    limit = record.spec.memory_bytes or 0
    tail = logs.tail_text(folder, record.log_inode, record.log_offset)
    text = f"used {mebibytes(used)}, limit {mebibytes(limit)}"
    return Crash("OOMKilled", Failure(OutOfMemory.code, text, hint=_MEMORY_HINT, log_tail=tail))


def of_startup(problem: str, folder: ReplicaFolder, record: ReplicaRecord) -> Crash:
    """Why a process was killed because its startup probe failed."""
    probe = record.spec.probes.startup
    budget = probe.initial_delay_s + probe.failure_threshold * probe.period_s
    return _hung(
        Crash("StartTimeout", Failure(StartTimeout.code, f"did not become ready within {budget:g} s")),
        problem,
        folder,
        record,
        hint="raise spec.probes.startup if loading really takes longer",
    )


def of_liveness(problem: str, folder: ReplicaFolder, record: ReplicaRecord) -> Crash:
    """Why a process was killed because its liveness probe failed."""
    times = record.spec.probes.liveness.failure_threshold
    text = f"failed its liveness probe {times} times and was killed"
    return _hung(Crash("LivenessFailed", Failure(ModelFailed.code, text)), problem, folder, record, hint=None)


def _hung(crash: Crash, problem: str, folder: ReplicaFolder, record: ReplicaRecord, hint: str | None) -> Crash:
    try:
        stack = folder.stack.read_text(errors="replace")
    except OSError:
        stack = ""
    frame = innermost_bundle_frame(stack, Path(record.spec.bundle_path))
    what = f"it hangs in {frame[0]} {frame[1]}" if frame is not None else problem
    return Crash(
        crash.reason,
        Failure(
            crash.failure.code,
            f"{crash.failure.message}; {what}",
            where=frame[0] if frame is not None else None,
            hint=hint,
            log_tail=logs.tail_text(folder, record.log_inode, record.log_offset),
        ),
    )


def _report(folder: ReplicaFolder) -> FailureReport | None:
    try:
        return msgspec.json.decode(folder.failure.read_bytes(), type=FailureReport)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _reported(report: FailureReport | None, spec: ReplicaSpec, tail: str) -> Failure | None:
    if report is None:
        return None
    code, hint, message = report.code, report.hint, report.message
    if code == OutOfMemory.code or _MEMORY_ERROR.search(message):
        code, hint = OutOfMemory.code, _MEMORY_HINT
        if spec.memory_bytes is not None and "limit" not in message:
            message = f"{message} (limit {mebibytes(spec.memory_bytes)})"
    return Failure(code, message, where=report.where, hint=hint, log_tail=tail)


def _from_exit(exit_: Exit, tail: str, *, serving: bool) -> Failure:
    when = "while serving" if serving else "while starting"
    message, hint = f"the process {exit_} {when}", None
    by_itself = exit_.code is not None or exit_.signal in FAULTS
    if exit_.code is not None and (line := logs.last_line(tail)) and "Error" in line:
        message = f"{message}: {line[:500]}"
    elif exit_.code is not None:
        hint = "no exception was raised: the model's code, or a library it uses, ended the process (os._exit)"
    elif exit_.signal == signal.SIGKILL:
        hint = "somebody else killed it: a person, or the system when the machine ran out of memory"
    elif exit_.signal in FAULTS:
        hint = "a fault in native code that the model uses"
    code = LoadFailed.code if by_itself and not serving else ModelFailed.code
    return Failure(code, message, hint=hint, log_tail=tail)


def innermost_bundle_frame(stack: str, bundle: Path) -> tuple[str, str] | None:
    """``("model.py:12", "load")`` from a dump by faulthandler: where in the bundle the process is now.

    Threads are dumped newest first, frames innermost first. The thread asked first is the main one (the last),
    where ``load`` runs; then the others.
    """
    threads: list[list[str]] = []
    for line in stack.splitlines():
        if _THREAD.match(line):
            threads.append([])
        elif threads:
            threads[-1].append(line)
    roots = {os.fspath(bundle), os.path.realpath(bundle)}
    for frames in reversed(threads):
        for line in frames:
            match = _FRAME.match(line)
            if match is None:
                continue
            for root in roots:
                if match["file"].startswith(root + os.sep):
                    file = match["file"][len(root) + 1 :]
                    return f"{file}:{match['line']}", match["name"]
    return None
