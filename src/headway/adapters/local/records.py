"""What is written down of each replica, so that whoever comes next can take over.

``HOME/replicas/ID/`` (mode 0700) holds ``record.json`` (this module), ``server.json`` (the model server's
orders), ``failure.json``, ``stack.txt`` and ``stats`` (its answers), ``log`` with ``log.1`` … (what it printed).

A record is written *before* the process it speaks of is started and again right after, so a control plane
that dies in between leaves a record without a pid, and the process is found by its environment instead
(``adoption``). Writes replace the file whole; they are not flushed to disk, for what survives a power cut is
no running process.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from headway.domain.errors import HeadwayError
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import Failure, ReplicaSpec

KEPT_GONE = 5
"""Replicas per model that are gone and whose folder (logs) is kept."""
_REPLICA_ID = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
GONE = frozenset({ReplicaPhase.STOPPED, ReplicaPhase.FAILED})
"""Phases in which no process is left and none will be started."""


@dataclass(frozen=True, slots=True)
class ReplicaRecord:
    """All that a supervisor knows of its replica."""

    spec: ReplicaSpec
    socket: str
    phase: ReplicaPhase = ReplicaPhase.STARTING
    pid: int | None = None
    start_ticks: int | None = None
    boot_id: str | None = None
    started_at: float | None = None
    ready_at: float | None = None
    changed_at: float = 0.0
    restarts: int = 0
    crash_score: float = 0.0
    reason: str | None = None
    failure: Failure | None = None
    forked: bool = False
    """The present process was forked from a template, and shares its memory."""
    log_inode: int = 0
    log_offset: int = 0
    """Where in the log the present process began."""

    def without_process(self) -> ReplicaRecord:
        """The same with nothing running."""
        return replace(self, pid=None, start_ticks=None, boot_id=None, started_at=None, ready_at=None, forked=False)


@dataclass(frozen=True, slots=True)
class ReplicaFolder:
    """The files of one replica."""

    path: Path

    @property
    def replica_id(self) -> str:
        return self.path.name

    @property
    def config(self) -> Path:
        return self.path / "server.json"

    @property
    def failure(self) -> Path:
        return self.path / "failure.json"

    @property
    def stack(self) -> Path:
        return self.path / "stack.txt"

    @property
    def stats(self) -> Path:
        return self.path / "stats"

    @property
    def log(self) -> Path:
        return self.path / "log"

    def create(self) -> None:
        """Make the folder; fine when it is there."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def save(self, record: ReplicaRecord) -> None:
        """Replace the record. Raises ``OSError``."""
        target = self.path / "record.json"
        draft = self.path / "record.json.new"
        draft.write_bytes(msgspec.json.encode(record))
        os.replace(draft, target)

    def load(self) -> ReplicaRecord | None:
        """The record; None when there is none. Raises :class:`HeadwayError` when it cannot be read."""
        try:
            return msgspec.json.decode((self.path / "record.json").read_bytes(), type=ReplicaRecord)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HeadwayError(f"the record of replica {self.replica_id} cannot be read: {error}") from error


class ReplicaFolders:
    """The folders of all replicas of one home."""

    def __init__(self, home: Path) -> None:
        self.path = home / "replicas"
        self._gone: dict[str, list[ReplicaFolder]] = {}
        """By model, the longest gone first."""

    def of(self, replica_id: str) -> ReplicaFolder:
        """The folder for ``replica_id``, whether it is there or not. Raises :class:`HeadwayError` for an unsafe id."""
        if not _REPLICA_ID.fullmatch(replica_id):
            raise HeadwayError(f"{replica_id[:80]!r} is not a replica's name")
        return ReplicaFolder(self.path / replica_id)

    def find(self, replica_id: str) -> ReplicaFolder | None:
        """The folder when it is there."""
        if not _REPLICA_ID.fullmatch(replica_id):
            return None
        folder = ReplicaFolder(self.path / replica_id)
        return folder if folder.path.is_dir() else None

    def all(self) -> Iterator[ReplicaFolder]:
        """Every folder there is, by name."""
        if self.path.is_dir():
            for entry in sorted(self.path.iterdir()):
                if entry.is_dir() and _REPLICA_ID.fullmatch(entry.name):
                    yield ReplicaFolder(entry)

    def retire(self, folder: ReplicaFolder, model: str) -> None:
        """The replica is gone: keep its folder (for its log) until :data:`KEPT_GONE` newer ones of ``model`` are."""
        gone = self._gone.setdefault(model, [])
        gone.append(folder)
        while len(gone) > KEPT_GONE:
            shutil.rmtree(gone.pop(0).path, ignore_errors=True)

    def revive(self, folder: ReplicaFolder, model: str) -> None:
        """The replica is to run again: its folder is no longer among those that go."""
        gone = self._gone.get(model, [])
        if folder in gone:
            gone.remove(folder)
