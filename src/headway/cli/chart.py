"""What a plot of windows shows, whoever draws it: curves of latency above, of requests and errors below. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from headway.cli.axes import Tick, clock_ticks, time_unit, value_ticks

if TYPE_CHECKING:
    from headway.api.schemas_query_log import WindowView
    from headway.client.windows import Windows

MOST_GROUPS: Final = 8
"""More than so many curves of one kind cannot be told apart; those with the most requests are drawn."""
MOST_MEDIANS: Final = 4
"""With more groups than that their medians would only hide the rest."""
_NAME: Final = 28
_APART: Final = (1, 2, 4, 3, 5, 6, 0, 7)
"""Colours of groups, neighbours unlike; those of quantiles go from light to dark."""
_GREY: Final = 7
"""A rate by itself; the colours before it are of quantiles."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One value per window; None where there is none: the curve has a gap there."""

    label: str
    values: tuple[float | None, ...]
    colour: int
    """Place in the renderer's list of colours."""
    legend: str = ""
    """What the legend says of it; empty: it is not in the legend."""
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A plot before it is drawn. Latency in nanoseconds, rates in requests per second, instants in seconds."""

    title: str
    facts: tuple[str, ...]
    """Below the title: span, totals, what one has to know about the figures."""
    since_s: float
    until_s: float
    windows: tuple[tuple[float, float], ...]
    """Begin and end of each."""
    latency: tuple[Curve, ...]
    rates: tuple[Curve, ...]
    errors: Curve | None

    def legend(self) -> list[Curve]:
        """Curves that the legend tells of."""
        curves = [*self.latency, *self.rates, *([self.errors] if self.errors is not None else [])]
        return [curve for curve in curves if curve.legend]

    def unit(self) -> tuple[float, str]:
        """Of the latency axis: nanoseconds in one, and its name."""
        return time_unit(greatest(self.latency) or 1e6)

    def latency_ticks(self) -> list[Tick]:
        """In :meth:`unit`, from 0."""
        return value_ticks(greatest(self.latency) / self.unit()[0])

    def rate_ticks(self) -> list[Tick]:
        """Requests per second, from 0."""
        curves = self.rates if self.errors is None else (*self.rates, self.errors)
        return value_ticks(greatest(curves), most=3)

    def drawn_errors(self) -> Curve | None:
        """Errors as they are drawn: a few among many requests would be thinner than a line, and are what is looked for.

        None is lower than 2 % of the axis.
        """
        if self.errors is None:
            return None
        least = self.rate_ticks()[-1].at / 50
        return replace(self.errors, values=tuple(value and max(value, least) for value in self.errors.values))

    def clock_ticks(self) -> list[Tick]:
        """Instants."""
        return clock_ticks(self.since_s, self.until_s)


def greatest(curves: tuple[Curve, ...]) -> float:
    """The greatest value of ``curves``; 0 without any."""
    return max((value for curve in curves for value in curve.values if value is not None), default=0.0)


def stretches(values: tuple[float | None, ...]) -> list[range]:
    """Runs of neighbours that have a value: what is drawn as one line each."""
    found: list[range] = []
    begin: int | None = None
    for place, value in enumerate((*values, None)):
        if value is not None and begin is None:
            begin = place
        elif value is None and begin is not None:
            found.append(range(begin, place))
            begin = None
    return found


def chart_of(found: Windows, title: str, facts: tuple[str, ...]) -> Chart:
    """How to draw ``found``.

    Without groups the four quantiles and the rate; with groups of each its 95th percentile, the median as a thin line
    where there is room for it, and its rate.
    """
    grid = found.grid(found.busiest(MOST_GROUPS))
    spans = found.spans()
    latency: list[Curve] = []
    rates: list[Curve] = []
    for colour, (group, line) in zip(_APART, grid.items(), strict=False):
        rate = tuple(0.0 if one is None else one.rate_per_s for one in line)
        if not found.by:
            latency = [_quantile(line, which, "", place) for place, which in enumerate(("p50", "p75", "p95", "p99"))]
            rates = [Curve("requests", rate, _GREY)]
            continue
        name = _short(" ".join(part or "-" for part in group))
        latency.append(_quantile(line, "p95", name, colour))
        if len(grid) <= MOST_MEDIANS:
            latency.append(_quantile(line, "p50", name, colour, dashed=True))
        rates.append(Curve(f"{name} requests", rate, colour))
    if found.by and grid:
        kinds = "p95; dashed: p50" if len(grid) <= MOST_MEDIANS else "p95"
        left_out = len(found.groups()) - len(grid)
        busy = f"; {left_out} groups with fewer requests are left out" if left_out else ""
        facts = (*facts, f"lines: {kinds}{busy}")
    failed = [0.0] * len(spans)
    for line in grid.values():
        for place, one in enumerate(line):
            begin, end = spans[place]
            failed[place] += 0.0 if one is None else one.errors / (end - begin)
    return Chart(
        title=title,
        facts=facts,
        since_s=found.since,
        until_s=found.until,
        windows=tuple(spans),
        latency=tuple(latency),
        rates=tuple(rates),
        errors=Curve("errors", tuple(failed), 0, "errors/s") if any(failed) else None,
    )


def _quantile(line: Sequence[WindowView | None], which: str, name: str, colour: int, *, dashed: bool = False) -> Curve:
    found = (None if one is None else getattr(one, f"{which}_ms") for one in line)
    values = tuple(None if value is None else value * 1e6 for value in found)
    legend = "" if dashed else name or which
    return Curve(f"{name} {which}".strip(), values, colour, legend, dashed)


def _short(name: str) -> str:
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"
