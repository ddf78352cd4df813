"""A plan drawn: the promised value over load, per number of replicas a curve and its measured points.

As HTML it is one file with inline SVG that loads nothing; as PNG it is drawn by matplotlib (extra ``plot``).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from headway.cli import chart_png
from headway.cli.axes import Tick, value_ticks
from headway.cli.chart_page import DARK, LIGHT
from headway.domain.errors import InvalidInput

WIDTH, HEIGHT = 900.0, 460.0
LEFT, RIGHT, TOP, BOTTOM = 66.0, 30.0, 36.0, 52.0
SHOWN: Final = 2.0
"""The axis ends at so many times the promise: what is worse is all the same."""


@dataclass(frozen=True, slots=True)
class Series:
    """One number of replicas."""

    replicas: int
    colour: int
    curve: tuple[tuple[float, float], ...]
    """Size and value, as foretold."""
    measured: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn. Values in milliseconds."""

    title: str
    across: str
    up: str
    limit: float
    series: tuple[Series, ...]

    def across_ticks(self) -> list[Tick]:
        return value_ticks(max((x for s in self.series for x, _ in (*s.curve, *s.measured)), default=1.0), 8)

    def up_ticks(self) -> list[Tick]:
        return value_ticks(self.limit * SHOWN)


def picture_of(name: str, plan: Mapping[str, Any]) -> Picture:
    """The picture of a plan's document."""
    what = plan["promise"].split("<")[0]
    users = plan["load"]["kind"] == "users"
    across = f"users, thinking {plan['load']['think_time_s']:g} s" if users else "requests a second"
    held = plan["held_out"]
    seen = [*plan["curves"], *plan["points"][1:], *([held] if held else [])]
    counts = sorted({one["replicas"] for one in seen})
    curves = {c["replicas"]: c["points"] for c in plan["curves"]}
    series = []
    for place, count in enumerate(counts):
        measured = [p for p in plan["points"][1:] if p["replicas"] == count]
        shown = {(p["load"]["size"], p["value_s"]) for p in measured}
        if held and held["replicas"] == count:
            shown.add((held["load"]["size"], held["measured_s"]))
        series.append(
            Series(
                count,
                (place + 1) % len(LIGHT),
                tuple((x, 1000 * y) for x, y in curves.get(count, [])),
                tuple((x, 1000 * y) for x, y in sorted(shown)),
            )
        )
    return Picture(f"{name}: {what} by load and replicas", across, f"{what}, ms", plan["limit_s"] * 1000, tuple(series))


def check_place(path: Path) -> None:
    """Before measuring, since afterwards it would be for nothing. Raises ``InvalidInput``, ``MissingExtra``."""
    if path.suffix not in (".html", ".png"):
        raise InvalidInput(f"{path.name!r} is no name of a plot", where="--plot", hint="end it in .html or .png")
    if not path.parent.is_dir():
        raise InvalidInput(f"there is no folder {path.parent}", where="--plot")
    if path.suffix == ".png":
        chart_png.check_installed()


def write(name: str, plan: Mapping[str, Any], path: Path) -> None:
    """Draw the plan's document into ``path``. Raises ``InvalidInput`` when it cannot be written."""
    picture = picture_of(name, plan)
    content = render_png(picture) if path.suffix == ".png" else render_html(picture).encode()
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}", where="--plot") from None


def _scale(value: float, top: float, begin: float, end: float) -> float:
    return begin + min(value / top, 1.0) * (end - begin)


def render_html(picture: Picture) -> str:
    """The whole file."""
    across, up = picture.across_ticks(), picture.up_ticks()

    def x(value: float) -> float:
        return _scale(value, across[-1].at, LEFT, WIDTH - RIGHT)

    def y(value: float) -> float:
        return _scale(value, up[-1].at, HEIGHT - BOTTOM, TOP)

    def drawn() -> Iterator[str]:
        for tick in up:
            yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick.at):.1f}" y2="{y(tick.at):.1f}"/>'
            yield f'<text x="{LEFT - 8}" y="{y(tick.at) + 4:.1f}" text-anchor="end">{escape(tick.text)}</text>'
        for tick in across:
            at = f'x="{x(tick.at):.1f}" y="{HEIGHT - BOTTOM + 20}"'
            yield f'<text {at} text-anchor="middle">{escape(tick.text)}</text>'
        yield f'<text x="{LEFT}" y="{TOP - 14}">{escape(picture.up)}</text>'
        yield f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 10}" text-anchor="end">{escape(picture.across)}</text>'
        limit = f"{y(picture.limit):.1f}"
        yield f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{limit}" y2="{limit}"/>'
        at = f'x="{WIDTH - RIGHT}" y="{y(picture.limit) - 6:.1f}"'
        yield f'<text class="limit" {at} text-anchor="end">promised</text>'
        for one in picture.series:
            shown = [(a, b) for a, b in one.curve if b <= up[-1].at]
            if shown:
                path = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in shown)
                yield f'<path class="c{one.colour}" d="M{path}"/>'
            for a, b in one.measured:
                yield f'<circle class="c{one.colour}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="4"/>'

    legend = "".join(
        f'<span><i class="c{s.colour}"></i>{s.replicas} replica{"" if s.replicas == 1 else "s"}</span>'
        for s in picture.series
    )
    light = "".join(f".c{i}{{--c:{colour}}}" for i, colour in enumerate(LIGHT))
    dark = "".join(f".c{i}{{--c:{colour}}}" for i, colour in enumerate(DARK))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(picture.title)}</title>'
        f"<style>{_STYLE}{light}@media(prefers-color-scheme:dark){{{_DARK}{dark}}}</style>"
        f"<h1>{escape(picture.title)}</h1><p>{legend}</p>"
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(picture.title)}">'
        + "".join(drawn())
        + "</svg><p>Lines are foretold, dots are measured; above the axis a dot is drawn at its end.</p></html>\n"
    )


_STYLE: Final = (
    ":root{--ink:#1c2430;--soft:#5b6675;--grid:#e6e9ee;--page:#fff;--limit:#d3222f;color-scheme:light dark}"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:960px;margin:2rem auto;"
    "padding:0 1rem}h1{font-size:1.2rem}p{color:var(--soft)}svg{width:100%;height:auto}"
    "svg text{font-size:12px;fill:var(--soft)}.grid{stroke:var(--grid)}path{fill:none;stroke:var(--c);stroke-width:2}"
    "circle{fill:var(--c);stroke:var(--page)}line.limit{stroke:var(--limit);stroke-width:1.5;stroke-dasharray:6 4}"
    "svg text.limit{fill:var(--limit)}span{margin-right:1.2em}"
    "i{display:inline-block;width:.8em;height:.8em;border-radius:50%;background:var(--c);margin-right:.4em}"
)
_DARK: Final = ":root{--ink:#e8ecf1;--soft:#a3adba;--grid:#2a323d;--page:#12161c;--limit:#ff6b70}"


def render_png(picture: Picture) -> bytes:
    """The file's bytes. Raises ``MissingExtra`` without matplotlib."""
    chart_png.check_installed()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    top = picture.up_ticks()[-1].at
    for one in picture.series:
        colour = LIGHT[one.colour]
        label = f"{one.replicas} replica{'' if one.replicas == 1 else 's'}"
        axes.plot([a for a, _ in one.curve], [b for _, b in one.curve], color=colour, label=label)
        axes.plot(
            [a for a, _ in one.measured], [min(b, top) for _, b in one.measured], "o", color=colour, clip_on=False
        )
    axes.axhline(picture.limit, color=chart_png.ERRORS, linestyle="--", linewidth=1.2, label="promised")
    axes.set_xlim(0, picture.across_ticks()[-1].at)
    axes.set_ylim(0, top)
    axes.set_xlabel(picture.across, color=chart_png.SOFT)
    axes.set_ylabel(picture.up, color=chart_png.SOFT)
    axes.set_title(picture.title.replace("$", r"\$"), loc="left", color=chart_png.INK, size=11)
    axes.grid(color=chart_png.GRID)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
