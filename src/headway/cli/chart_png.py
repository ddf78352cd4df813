"""A chart as a PNG, drawn by matplotlib (extra ``plot``).

Its figures are made without ``pyplot``: no backend is chosen for the process and no display is looked for.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from headway.cli.axes import Tick
from headway.cli.chart import Chart, Curve, stretches
from headway.cli.chart_page import LIGHT
from headway.domain.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, GRID, ERRORS = "#1c2430", "#5b6675", "#e6e9ee", "#d3222f"
INCHES: Final = (10.0, 6.0)
DPI: Final = 150
LEGEND_COLUMNS: Final = 5


def check_installed() -> None:
    """Raises ``MissingExtra`` without matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtra(
            "a plot as PNG needs matplotlib",
            where="--plot",
            hint="pip install 'headway[plot]'; or write an .html file, which needs nothing more",
        ) from None


def render(chart: Chart) -> bytes:
    """The file's bytes. Raises ``MissingExtra`` without matplotlib."""
    check_installed()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    facts = "\n".join(chart.facts)
    head = 0.42 + 0.2 * len(chart.facts)  # inches: the title and one line per fact
    legend_rows = -(-len(chart.legend()) // LEGEND_COLUMNS)
    upper, lower = figure.subplots(
        2,
        1,
        sharex=True,
        gridspec_kw={
            "height_ratios": (2.7, 1),
            "hspace": 0.22,
            "left": 0.075,
            "right": 0.97,
            "bottom": 0.065,
            "top": 1 - (head + 0.33 + 0.2 * legend_rows) / INCHES[1],
        },
    )
    figure.text(0.015, 1 - 0.12 / INCHES[1], _plain(chart.title), color=INK, size=13, weight="bold", va="top")
    figure.text(0.015, 1 - 0.40 / INCHES[1], _plain(facts), color=SOFT, size=9, va="top", linespacing=1.4)
    _draw_latency(upper, chart)
    _draw_rates(lower, chart)
    marks = chart.clock_ticks()
    lower.set_xlim(chart.since_s, chart.until_s)
    lower.set_xticks([tick.at for tick in marks], [tick.text for tick in marks])
    if legend_rows:
        handles, labels = upper.get_legend_handles_labels()
        more, names = lower.get_legend_handles_labels()
        figure.legend(
            [*handles, *more],
            [*labels, *names],
            loc="upper left",
            bbox_to_anchor=(0.008, 1 - head / INCHES[1]),
            ncols=LEGEND_COLUMNS,
            frameon=False,
            fontsize=9,
            labelcolor=INK,
            borderpad=0,
            columnspacing=1.6,
        )
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _draw_latency(axes: Axes, chart: Chart) -> None:
    size, unit = chart.unit()
    places = [(begin + end) / 2 for begin, end in chart.windows]
    for curve in chart.latency:
        style: dict[str, Any] = {"color": LIGHT[curve.colour], "linewidth": 1.0 if curve.dashed else 1.5}
        style["linestyle"] = "--" if curve.dashed else "-"
        values = [float("nan") if value is None else value / size for value in curve.values]
        axes.plot(places, values, label=_legend(curve), solid_capstyle="round", **style)
        for stretch in stretches(curve.values):
            if len(stretch) == 1:
                value = values[stretch[0]]
                axes.plot(chart.windows[stretch[0]], (value, value), **style)
    _dress(axes, chart.latency_ticks(), f"latency, {unit}")


def _draw_rates(axes: Axes, chart: Chart) -> None:
    edges = [begin for begin, _ in chart.windows] + [end for _, end in chart.windows[-1:]]
    for curve in chart.rates:
        values = [value or 0.0 for value in curve.values]
        colour = LIGHT[curve.colour]
        axes.stairs(values, edges, color=colour, linewidth=1.2)
        if len(chart.rates) == 1:
            axes.stairs(values, edges, color=colour, alpha=0.3, fill=True)
    if (errors := chart.drawn_errors()) is not None:
        values = [value or 0.0 for value in errors.values]
        axes.stairs(values, edges, color=ERRORS, alpha=0.75, fill=True, label=_legend(errors))
    _dress(axes, chart.rate_ticks(), "requests/s")


def _dress(axes: Axes, ticks: list[Tick], name: str) -> None:
    axes.set_ylim(0, ticks[-1].at)
    axes.set_yticks([tick.at for tick in ticks], [tick.text for tick in ticks])
    axes.set_title(name, loc="left", size=9.5, color=INK, weight="bold")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=SOFT, labelsize=9, length=0, pad=6)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color("#9aa4b2")


def _legend(curve: Curve) -> str:
    """A label that begins with _ is left out of the legend, so one that shall stay gets a space before it."""
    return _plain(f" {curve.legend}" if curve.legend.startswith("_") else curve.legend or "_none")


def _plain(text: str) -> str:
    """Without the formulas that dollar signs would begin."""
    return text.replace("$", r"\$")
