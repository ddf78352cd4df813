"""A trial: a canary whose share is raised in steps on the evidence, and taken back on harm. Plain data.

It stands in its deployment, so whatever dies, the next control plane goes on with it. ``since`` is when the split of
the present step went live; evidence counts from then on, because from then on chance alone decides who answers a
request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from headway.domain.comparisons import Margins
from headway.domain.errors import InvalidInput
from headway.domain.lifecycle import TRIAL_TRANSITIONS, TrialState, check
from headway.domain.routing_table import Arm

STEPS: Final = (5, 10, 25, 50, 100)
"""Up to a half the newer version has less to do than the base, never more, so the steps cannot make it look slower."""
OPEN: Final = (TrialState.RUNNING, TrialState.HELD)


class AtMost(StrEnum):
    """What becomes of a step without enough evidence in its time."""

    HOLD = "hold"
    """It stays where it is, says so, and goes on looking."""
    PROMOTE = "promote"
    """The next step, as if nothing spoke against it: nothing has."""
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRules:
    """How a trial goes. Raises ``InvalidInput``."""

    steps: tuple[int, ...] = STEPS
    """Shares in percent; the last is 100."""
    at_least_s: float = 60.0
    """How long each step takes at least."""
    at_most_s: float = 3600.0
    """After so long in a step without enough evidence, ``then``."""
    then: AtMost = AtMost.HOLD
    confidence: float = 0.95
    """Of the whole trial: a version that is no worse is rolled back with probability 1 - confidence at most."""
    margins: Margins = field(default_factory=Margins)
    metrics: tuple[str, ...] | None = None
    """Feedback that the verdict waits for; None: whatever feedback comes."""

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip(self.steps, self.steps[1:], strict=False))
        if len(self.steps) < 2 or not rising or self.steps[0] < 1 or self.steps[-1] != 100:
            shown = ", ".join(map(str, self.steps[:20]))
            raise InvalidInput(
                f"{shown or 'nothing'} are no steps", where="steps", hint="rising, up to 100: 5,25,50,100"
            )
        if not 0 < self.at_least_s <= self.at_most_s:
            raise InvalidInput(
                f"a step takes {self.at_least_s:g} s at least and {self.at_most_s:g} s at most",
                where="at_most_s",
                hint="more than 0, and the second no less than the first",
            )
        if not 0.5 <= self.confidence < 1:
            raise InvalidInput(f"a confidence of {self.confidence:g}", where="confidence", hint="from 0.5 to below 1")
        margins = self.margins
        outcome = 0.0 if margins.outcome is None else margins.outcome
        if min(margins.latency, margins.latency_floor_s, margins.errors, outcome) < 0:
            raise InvalidInput("a margin below zero", where="margins", hint="how much worse it may be, 0 or more")

    @property
    def alpha(self) -> float:
        """Of each step: they share it out."""
        return (1 - self.confidence) / (len(self.steps) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One canary on its way."""

    base: str
    version: str
    rules: TrialRules
    began_at: float
    step: int = 0
    """Place in ``rules.steps``."""
    since: float | None = None
    """None: the split of this step is not live yet."""
    state: TrialState = TrialState.RUNNING
    reason: str = ""
    """Why it is held or ended."""
    metrics: tuple[str, ...] = ()
    """Metrics that there was feedback of, in any step."""
    ended_at: float | None = None

    @property
    def open(self) -> bool:
        """Whether it goes on."""
        return self.state in OPEN

    @property
    def share(self) -> int:
        """Of the newer version in this step, in percent."""
        return self.rules.steps[self.step]

    def split(self) -> tuple[Arm, ...]:
        """The traffic of this step."""
        if self.share == 100:
            return (Arm(self.version, 100),)
        return (Arm(self.base, 100 - self.share), Arm(self.version, self.share))

    def moved(self, state: TrialState, reason: str, now: float) -> Trial:
        """This trial in ``state``, checked against the transition table."""
        check(TRIAL_TRANSITIONS, self.state, state)
        return replace(self, state=state, reason=reason, ended_at=None if state in OPEN else now)

    def document(self) -> dict[str, Any]:
        """As JSON values, for :meth:`of`."""
        rules = asdict(self.rules)
        metrics = None if self.rules.metrics is None else list(self.rules.metrics)
        rules |= {"steps": list(self.rules.steps), "metrics": metrics, "then": str(self.rules.then)}
        return {**asdict(self), "rules": rules, "state": str(self.state), "metrics": list(self.metrics)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Trial:
        """From :meth:`document`."""
        rules = rules_of(document["rules"])
        rest = {key: value for key, value in document.items() if key not in ("rules", "state", "metrics")}
        state = TrialState(document["state"])
        return cls(rules=rules, state=state, metrics=tuple(document["metrics"]), **rest)


def rules_of(document: Mapping[str, Any]) -> TrialRules:
    """From JSON values; what is left out is the default. Raises ``InvalidInput`` for what breaks a rule."""
    given = dict(document)
    if "margins" in given:
        given["margins"] = Margins(**given["margins"])
    if "then" in given:
        if given["then"] not in set(AtMost):
            known = ", ".join(AtMost)
            raise InvalidInput(f"{str(given['then'])[:40]!r} is no end of a step", where="then", hint=f"one of {known}")
        given["then"] = AtMost(given["then"])
    metrics: Sequence[str] | None = given.get("metrics")
    given["metrics"] = None if metrics is None else tuple(metrics)
    if "steps" in given:
        given["steps"] = tuple(given["steps"])
    return TrialRules(**given)
