"""The picture of a self-healing run: load, latency or queue, replicas, with every decision marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, SOFT, GRID = "#1c2430", "#5b6675", "#e6e9ee"
COLORS = ("#2f6fd0", "#d97b29", "#2d8f5a")


@dataclass(frozen=True, slots=True)
class Curve:
    """``points`` as (seconds from the beginning, value)."""

    label: str
    points: Sequence[tuple[float, float]]
    step: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the plots above each other. ``level``: a line that matters, with its label."""

    unit: str
    curves: Sequence[Curve]
    level: tuple[float, str] | None = None


@dataclass(slots=True)
class Picture:
    """Everything that is drawn; ``decisions`` as (seconds, from, to)."""

    title: str
    facts: str
    panels: list[Panel] = field(default_factory=list)
    decisions: Sequence[tuple[float, int, int]] = ()


def draw(picture: Picture, path: Path) -> None:
    """Write it to ``path`` as a PNG."""
    figure = Figure(figsize=(10, 7), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    plots = figure.subplots(len(picture.panels), 1, sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(left=0.08, right=0.98, top=0.885, bottom=0.07, hspace=0.16)
    figure.text(0.02, 0.975, picture.title, color=INK, size=13, weight="bold", va="top")
    figure.text(0.02, 0.94, picture.facts, color=SOFT, size=9, va="top")
    for plot, panel in zip(plots, picture.panels, strict=True):
        for color, curve in zip(COLORS, panel.curves, strict=False):
            xs, ys = [x for x, _ in curve.points], [y for _, y in curve.points]
            plot.plot(
                xs, ys, color=color, label=curve.label, lw=1.6, drawstyle="steps-post" if curve.step else "default"
            )
        if panel.level is not None:
            plot.axhline(panel.level[0], color="#d3222f", lw=1, ls="--", label=panel.level[1])
        for at, before, after in picture.decisions:
            plot.axvline(at, color="#2d8f5a" if after > before else "#8a5bb5", lw=0.8, alpha=0.55)
        plot.set_ylabel(panel.unit, color=SOFT, size=9)
        plot.set_ylim(bottom=0)
        plot.grid(color=GRID, lw=0.6)
        plot.tick_params(colors=SOFT, labelsize=8)
        plot.legend(loc="upper left", fontsize=8, frameon=False, ncols=3)
        for side in ("top", "right"):
            plot.spines[side].set_visible(False)
    last = plots[-1]
    top = last.get_ylim()[1]
    for at, before, after in picture.decisions:
        text = f"{after - before:+d}"
        last.text(at, top, text, size=7, color="#2d8f5a" if after > before else "#8a5bb5", ha="center", va="bottom")
    last.set_xlabel("seconds; lines are decisions: green up, purple down", color=SOFT, size=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
