"""SignalWatch: says once when a trigger has lost what it scales by, and once when that is back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from headway.domain.events import EventType, NewEvent
from headway.ports.clock import Clock

LOST_AFTER: Final = 3
"""Attempts in a row without data; one or two are a hiccup that nobody has to read about."""


class SignalKey(NamedTuple):
    """Whose signal. ``version`` None: the trigger is asked once for all versions."""

    model: str
    version: str | None
    trigger: str


class _Loss:
    __slots__ = ("lost_at", "misses", "seen")

    def __init__(self) -> None:
        self.misses = 0
        self.lost_at: float | None = None
        self.seen = 0


class SignalWatch:
    """Keeps something only of signals that are missing."""

    def __init__(self, clock: Clock, tell: Callable[[NewEvent], None]) -> None:
        self._clock = clock
        self._tell = tell
        self._losses: dict[SignalKey, _Loss] = {}
        self._round = 0

    def look(self, key: SignalKey, misses: int, error: str, **more: Any) -> None:
        """``misses`` attempts in a row have brought no data; ``error`` says why."""
        loss = self._losses.get(key)
        if misses == 0:
            if loss is not None:
                self._found(key, loss)
            return
        if loss is None:
            loss = self._losses[key] = _Loss()
        loss.seen, loss.misses = self._round, misses
        if misses >= LOST_AFTER and loss.lost_at is None:
            loss.lost_at = self._clock.monotonic()
            data = {"trigger": key.trigger, "error": error, "misses": misses, **more}
            self._event(EventType.SCALING_SIGNAL_LOST, key, data)

    def look_again(self, key: SignalKey, missing: bool, error: str, **more: Any) -> None:
        """As :meth:`look`, for what is looked at in every round: one more miss, or none."""
        if not missing:
            if self._losses:
                self.look(key, 0, "")
            return
        loss = self._losses.get(key)
        self.look(key, 1 if loss is None else loss.misses + 1, error, **more)

    def sweep(self) -> None:
        """Forget signals that nobody looked at since the last sweep: their trigger is gone."""
        for key in [key for key, loss in self._losses.items() if loss.seen != self._round]:
            del self._losses[key]
        self._round += 1

    def _found(self, key: SignalKey, loss: _Loss) -> None:
        del self._losses[key]
        if loss.lost_at is not None:
            lost_s = round(self._clock.monotonic() - loss.lost_at, 3)
            self._event(EventType.SCALING_SIGNAL_BACK, key, {"trigger": key.trigger, "lost_s": lost_s})

    def _event(self, kind: EventType, key: SignalKey, data: dict[str, Any]) -> None:
        self._tell(NewEvent(self._clock.now(), kind, key.model, key.version, data=data))
