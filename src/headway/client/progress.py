"""What a rollout tells while one waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Stage = Literal["bundle", "environment", "start", "ready", "route", "drain"]
"""In the order in which a rollout goes through them; one that has nothing to do is left out."""
State = Literal["running", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a rollout: ``text`` is one line for people."""

    stage: Stage
    state: State
    text: str
