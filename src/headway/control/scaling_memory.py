"""What is left of earlier decisions after a restart: the state that the last record led to, while that is fresh."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from headway.domain.replicas import Role
from headway.ports.decision_log import DecisionLog
from headway.scaling.decision import State
from headway.scaling.record import state_after

log = logging.getLogger(__name__)

FRESH_S: Final = 120.0
"""How old a version's last record may be for its state to be taken up again: a quiet one is up to a minute old."""


async def remembered(
    decisions: DecisionLog, model: str, version: str, wished: int, window_s: float, now: float, role: Role = "serve"
) -> State:
    """What the version's last record left, while that is fresh; else nothing.

    Nobody looked meanwhile: as at the very first decision, the cooldown period begins anew, and so does the
    scale-down window (``window_s``) if nothing is left of it, with the ``wished`` count.
    """
    state = State()
    try:
        record = await decisions.latest(model, version, role=role)
        if record is not None and 0 <= now - record.at <= FRESH_S:
            state = replace(state_after(record.document), active_at=now)
    except Exception:
        log.exception("cannot take up what was decided about %s %s; beginning anew", model, version)
    if state.at is not None and all(at <= now - window_s for at, _ in state.downs):
        state = replace(state, downs=((now, wished),))
    return state
