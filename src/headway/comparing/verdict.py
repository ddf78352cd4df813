"""What a trial does next, from the comparison of its two versions. Pure.

*Harm* is a figure that is shown to be worse while it is not shown to be within its margin; it ends the trial. A step
is passed once every figure that is judged is shown to be within its margin (non-inferiority): a good version need not
be better to come in, but "nothing was found" is not enough either.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from headway.domain.comparisons import Answer, Comparison, Figure, Measure, MeasureKind
from headway.domain.trials import AtMost, Trial


class Move(StrEnum):
    """What to do."""

    WAIT = "wait"
    ADVANCE = "advance"
    HOLD = "hold"
    ROLL_BACK = "roll back"


@dataclass(frozen=True, slots=True)
class Verdict:
    """With the reason in a line."""

    move: Move
    reason: str


def next_move(trial: Trial, comparison: Comparison, now: float) -> Verdict:
    """For a trial whose present step is live."""
    harm = [harm_text(measure, figure) for measure in comparison.measures for figure in harmful(measure)]
    if harm:
        return Verdict(Move.ROLL_BACK, "; ".join(harm))
    rules = trial.rules
    age_s = now - (now if trial.since is None else trial.since)
    if age_s < rules.at_least_s:
        return Verdict(Move.WAIT, f"a step takes {rules.at_least_s:g} s at least")
    if comparison.within:
        return Verdict(Move.ADVANCE, "no figure is worse than its margin allows")
    missing = ", ".join(measure.name for measure in comparison.measures if not measure.within)
    reason = f"not enough evidence yet about {missing}"
    if age_s < rules.at_most_s:
        return Verdict(Move.WAIT, reason)
    late = f"{reason} after {rules.at_most_s:g} s"
    move = {AtMost.HOLD: Move.HOLD, AtMost.PROMOTE: Move.ADVANCE, AtMost.ROLLBACK: Move.ROLL_BACK}[rules.then]
    return Verdict(move, late)


def harmful(measure: Measure) -> list[Figure]:
    """Figures that are shown to be worse, and not shown to be within their margin."""
    return [one for one in measure.figures if one.judged and one.answer is Answer.WORSE and not one.within]


def harm_text(measure: Measure, figure: Figure) -> str:
    """``p95 0.21 s instead of 0.05 s``."""
    unit = {MeasureKind.LATENCY: " s", MeasureKind.ERRORS: "", MeasureKind.OUTCOME: ""}[measure.kind]
    base, version = (f"{value:.4g}{unit}" for value in (figure.base or 0.0, figure.version or 0.0))
    name = measure.name if measure.kind is not MeasureKind.LATENCY else f"latency {figure.name}"
    return f"{name} {version} instead of {base}"
