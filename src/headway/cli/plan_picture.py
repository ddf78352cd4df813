"""What a plan's picture shows: the promised value over load, a curve per number of replicas. Pure.

Beside the curve stand the measured points, what is carried with its 90 % interval, the prediction that was tried, the
promise and the load that was asked about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from headway.cli.axes import Tick, figure, value_ticks
from headway.cli.chart_page import LIGHT
from headway.cli.output import count_text
from headway.cli.plan_text import load_text, percent, size_text, time_text

SHOWN: Final = 2.0
"""The axis ends at so many times the promise: what is worse is all the same."""
FAR: Final = 1.25
"""A load asked about that is beyond so many times all others is not marked: it would press them to the left."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A measured point."""

    at: float
    value: float
    kept: bool
    told: str


@dataclass(frozen=True, slots=True)
class Carried:
    """The load as planned, on the curve, and its 90 % interval, on the promise."""

    at: float
    value: float
    low: float
    high: float
    told: str


@dataclass(frozen=True, slots=True)
class Foretold:
    """The prediction that was tried, an interval over one load."""

    at: float
    low: float
    high: float
    told: str


@dataclass(frozen=True, slots=True)
class Series:
    """One number of replicas."""

    replicas: int
    colour: int
    curve: tuple[tuple[float, float], ...]
    """Size and value, as foretold."""
    measured: tuple[Dot, ...]
    carried: Carried | None
    tried: tuple[Foretold, ...]

    @property
    def name(self) -> str:
        return count_text(self.replicas, "replica")

    def at(self, size: float) -> float | None:
        """What the curve says; None beyond its ends."""
        for (a, low), (b, high) in pairwise(self.curve):
            if a <= size <= b:
                return low + (high - low) * (size - a) / (b - a)
        return None


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn. Values in milliseconds."""

    title: str
    across: str
    up: str
    promise: str
    limit: float
    series: tuple[Series, ...]
    asked: tuple[float, str] | None = None

    def across_ticks(self) -> list[Tick]:
        return value_ticks(self.widest(), 8)

    def up_ticks(self) -> list[Tick]:
        return value_ticks(self.limit * SHOWN)

    def widest(self) -> float:
        """The largest load of all."""
        sizes = [size for one in self.series for size, _ in one.curve]
        sizes += [dot.at for one in self.series for dot in one.measured]
        found = max(sizes, default=1.0)
        return found if self.asked is None else max(found, self.asked[0])

    def cut(self) -> bool:
        """Whether some point is above the axis, and drawn at its end."""
        return any(dot.value > self.up_ticks()[-1].at for one in self.series for dot in one.measured)


def picture_of(name: str, plan: Mapping[str, Any]) -> Picture:
    """The picture of a plan's document."""
    what, load = plan["promise"].split("<")[0], plan["load"]
    across = "requests a second"
    if load["kind"] == "users":
        across = f"users, thinking {time_text(load['think_time_s'])}"
    tried = [one for one in (plan["held_out"], *plan.get("settled", ())) if one is not None]
    rows = {one["replicas"]: one for one in plan["capacity"] if one["size"] > 0}
    curves = {one["replicas"]: one["points"] for one in plan["curves"]}
    # The first point is one user alone, who does not think: no load of the kind that the axis is about.
    points = plan["points"][1:]
    counts = sorted({one["replicas"] for one in (*plan["curves"], *points, *tried)})
    series = tuple(
        Series(
            count,
            (place + 1) % len(LIGHT),
            tuple((size, 1000 * value) for size, value in curves.get(count, ())),
            tuple(_dots(plan, what, [p for p in points if p["replicas"] == count], tried, count)),
            _carried(plan, what, rows.get(count)),
            tuple(_foretold(what, one) for one in tried if one["replicas"] == count),
        )
        for place, count in enumerate(counts)
    )
    bare = Picture(
        f"{name}: {what} by load and replicas", across, f"{what}, ms", plan["promise"], plan["limit_s"] * 1000, series
    )
    return _marked(bare, plan)


def _marked(picture: Picture, plan: Mapping[str, Any]) -> Picture:
    asked = plan["answer"]
    if asked is None or asked["load"]["size"] > FAR * picture.widest():
        return picture
    mark = (float(asked["load"]["size"]), load_text({**plan["load"], **asked["load"]}))
    return Picture(
        picture.title, picture.across, picture.up, picture.promise, picture.limit, picture.series, asked=mark
    )


def _dots(plan: Mapping[str, Any], what: str, points: list[Any], tried: list[Any], count: int) -> list[Dot]:
    """Plans of older releases have what was tried beside the points, not among them."""
    found = {}
    for one in tried:
        if one["replicas"] == count:
            at = one["load"]["size"]
            told = f"{load_text({**plan['load'], **one['load']})}: {what} {time_text(one['measured_s'])}"
            found[at] = Dot(at, 1000 * one["measured_s"], one["measured_s"] <= plan["limit_s"], told)
    for one in points:
        at, kept = one["load"]["size"], one.get("kept", one["value_s"] <= plan["limit_s"])
        told = f"{load_text(one['load'])}: {what} {time_text(one['value_s'])}, {'kept' if kept else 'broken'}"
        if "rate_per_s" in one:
            told += f"; {figure(one['rate_per_s'])} requests/s"
        if one.get("cpu") is not None:
            told += f", cpu {percent(one['cpu'])}"
        if one.get("failed"):
            told += f", {percent(one['failed'])} failed"
        found[at] = Dot(at, 1000 * one["value_s"], kept, told)
    return [found[at] for at in sorted(found)]


def _carried(plan: Mapping[str, Any], what: str, row: Mapping[str, Any] | None) -> Carried | None:
    if row is None or row["value_s"] is None:
        return None
    kind = plan["load"]["kind"]
    told = (
        f"{count_text(row['replicas'], 'replica')}: {size_text(kind, row['size'])} as planned, "
        f"90 %: {size_text(kind, row['low']).split()[0]} to {size_text(kind, row['high'])}"
    )
    return Carried(row["size"], 1000 * row["value_s"], row["low"], row["high"], told)


def _foretold(what: str, one: Mapping[str, Any]) -> Foretold:
    low, high = one["predicted"]["low_s"], one["predicted"]["high_s"]
    told = f"predicted {what} {time_text(one['predicted']['value_s'])} (90 %: {time_text(low)} to {time_text(high)})"
    return Foretold(one["load"]["size"], 1000 * low, 1000 * high, told)
