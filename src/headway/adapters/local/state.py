"""ReplicaState: what is known of one replica, saved and told at every change.

The only place that changes a replica's phase, and so the only one that consults the transition table.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from headway.adapters.local.records import ReplicaFolder, ReplicaRecord
from headway.domain.lifecycle import REPLICA_TRANSITIONS, ReplicaPhase, check
from headway.domain.replicas import ReplicaSpec, ReplicaStatus, ReplicaTransition
from headway.ports.clock import Clock

log = logging.getLogger(__name__)

SERVING = (ReplicaPhase.READY, ReplicaPhase.UNREADY)


class ReplicaState:
    """The record of a replica in memory and on disk."""

    def __init__(
        self, folder: ReplicaFolder, record: ReplicaRecord, clock: Clock, emit: Callable[[ReplicaTransition], None]
    ) -> None:
        self.folder = folder
        self.record = record
        self._clock = clock
        self._emit = emit

    @property
    def spec(self) -> ReplicaSpec:
        return self.record.spec

    @property
    def phase(self) -> ReplicaPhase:
        return self.record.phase

    @property
    def was_ready(self) -> bool:
        """Whether the present process has been ready."""
        return self.record.ready_at is not None

    def status(self, rss_bytes: int | None = None) -> ReplicaStatus:
        """As the port reports it."""
        record = self.record
        return ReplicaStatus(
            replica_id=record.spec.replica_id,
            model=record.spec.model,
            version=record.spec.version,
            phase=record.phase,
            address=f"unix:{record.socket}" if self.was_ready else None,
            pid=record.pid,
            restarts=record.restarts,
            reason=record.reason,
            failure=record.failure,
            started_at=record.started_at,
            ready_at=record.ready_at,
            rss_bytes=rss_bytes,
            role=record.spec.role,
        )

    def move(self, phase: ReplicaPhase, *, adopted: bool = False, **facts: Any) -> None:
        """Into ``phase`` with the record's ``facts`` changed; nothing when it is there already.

        Raises :class:`HeadwayError` for a move that the transition table does not hold.
        """
        old = self.phase
        check(REPLICA_TRANSITIONS, old, phase)
        if phase is not old:
            self.change(phase=phase, changed_at=self._clock.now(), **facts)
            self.tell(old, adopted=adopted)

    def become_ready(self, *, adopted: bool = False) -> None:
        """Ready: whatever failed before is history."""
        self.move(ReplicaPhase.READY, ready_at=self._clock.now(), reason=None, failure=None, adopted=adopted)

    def lose_process(self) -> None:
        """No process runs any more; saved with the next change."""
        self.record = self.record.without_process()

    def change(self, **facts: Any) -> None:
        """Change and save the record without a change of phase."""
        self.record = replace(self.record, **facts)
        try:
            self.folder.create()
            self.folder.save(self.record)
        except OSError:
            # A full disk must not end the supervision; an outdated record is put right by the next adoption.
            log.exception("cannot save the record of replica %s", self.spec.replica_id)

    def tell(self, old: ReplicaPhase | None, *, adopted: bool = False) -> None:
        """Report the present phase as reached from ``old``."""
        self._emit(ReplicaTransition(self._clock.now(), old, self.status(), adopted))
