"""LoadSights: joins what the master of a load test measures with what is seen of the model from elsewhere.

Who asks for a test on a cluster may look at the model, and the master, which has no rights there, may not; but the
test's time is told by the master's clock. No two clocks are compared: an interval is heard of right after its end, so
the earliest begin that follows from any of them is the test's begin as seen from here. The replicas of an interval are
those that were seen last before its end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from headway.control.load_points import phase_with
from headway.domain.load_reports import LoadPoint, LoadReport, ScalingMark
from headway.ports.model_watch import ModelLook

FRESH_S: Final = 5.0
"""An older sight is none."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """Why something is not known, in words; None: it is."""

    replicas: str | None = None
    reasons: str | None = None


class LoadSights:
    """Of one load test. All instants are of the monotonic clock of who looks."""

    def __init__(self) -> None:
        self._at_s: list[float] = []
        self._looks: list[ModelLook] = []
        self.begin_s: float | None = None
        """When the load began; None while no interval was heard of."""

    def seen(self, at_s: float, look: ModelLook | None) -> None:
        """A look is over."""
        if look is not None:
            self._at_s.append(at_s)
            self._looks.append(look)

    def heard(self, point: LoadPoint, at_s: float) -> LoadPoint:
        """An interval was told of as it ended; it, with the replicas."""
        begin_s = at_s - point.end_s
        self.begin_s = begin_s if self.begin_s is None else min(self.begin_s, begin_s)
        return self._with_replicas(point)

    def joined(self, report: LoadReport, marks: Sequence[ScalingMark], unseen: Unseen) -> LoadReport:
        """The master's report, with the replicas and ``marks``, and with a word about all that is not known."""
        points = tuple(self._with_replicas(one) for one in report.points)
        return replace(
            report,
            points=points,
            phases=tuple(phase_with(one, points) for one in report.phases),
            decisions=tuple(one for one in marks if one.at_s <= report.duration_s + 1),
            # What happened stays last.
            notes=(*report.notes[:1], *_missing(points, unseen), *report.notes[1:]),
        )

    def _with_replicas(self, point: LoadPoint) -> LoadPoint:
        look = None if self.begin_s is None else self._last(self.begin_s + point.end_s)
        if look is None:
            return point
        if look.ready is not None and point.measured is not None and point.measured < look.ready:
            # A sum over some of them would look as if the rest had nothing to do.
            point = replace(point, cpu_cores=None, memory_bytes=None)
        return replace(point, replicas=look.ready, wished=look.wished)

    def _last(self, at_s: float) -> ModelLook | None:
        place = bisect_right(self._at_s, at_s) - 1
        return self._looks[place] if place >= 0 and at_s - self._at_s[place] <= FRESH_S else None


def _missing(points: Sequence[LoadPoint], unseen: Unseen) -> list[str]:
    found = []
    blind = sum(one.replicas is None for one in points)
    if points and blind == len(points):
        found.append(f"Replicas are not known: {unseen.replicas or 'nobody looked in time'}.")
    elif blind:
        found.append(f"Replicas are not known in {blind} of {len(points)} intervals: the cluster did not tell in time.")
    partly = sum(one.measured is not None and one.cpu_cores is None for one in points)
    if not any(one.cpu_cores is not None for one in points):
        found.append(
            "Processor use and memory are not known: the master asks every ready replica, which it finds by the "
            "cluster's DNS, at its port 8080, and not all of them have answered."
        )
    elif partly:
        found.append(
            f"Processor use and memory are not known in {partly} of {len(points)} intervals, in which not every ready "
            "replica had been asked: the cluster's DNS may take half a minute to tell of a new one."
        )
    if unseen.reasons is not None and blind < len(points):
        found.append(f"Why replicas changed is not known: {unseen.reasons}.")
    return found
