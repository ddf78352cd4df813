"""A plan drawn into a file: a page with inline SVG, or a PNG by matplotlib (extra ``plot``)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.cli import chart_png, plan_page
from headway.cli.chart_page import LIGHT
from headway.cli.load_run import check_writable
from headway.cli.plan_picture import Picture, Series, picture_of
from headway.domain.errors import InvalidInput

if TYPE_CHECKING:
    from headway.api.schemas_plans import PlanView


LEGEND_COLUMNS = 6
BAND = 0.012
"""What one interval takes of the height."""


def check_place(path: Path) -> None:
    """Before measuring, since afterwards it would be for nothing. Raises ``InvalidInput``, ``MissingExtra``."""
    if path.suffix not in (".html", ".png"):
        raise InvalidInput(f"{path.name!r} is no name of a plot", where="--plot", hint="end it in .html or .png")
    if not path.parent.is_dir():
        raise InvalidInput(f"there is no folder {path.parent}", where="--plot")
    if path.suffix == ".png":
        chart_png.check_installed()
    check_writable(path, "--plot")


def write(name: str, stored: PlanView, path: Path) -> None:
    """Draw the plan into ``path``. Raises ``InvalidInput`` when it cannot be written."""
    content = (
        render_png(picture_of(f"{name} {stored.basis.version}", stored.document))
        if path.suffix == ".png"
        else plan_page.render(name, stored).encode()
    )
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}", where="--plot") from None


def render_png(picture: Picture) -> bytes:
    """The file's bytes. Raises ``MissingExtra`` without matplotlib."""
    chart_png.check_installed()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    top = picture.up_ticks()[-1].at
    for place, one in enumerate(picture.series):
        aside = (place - (len(picture.series) - 1) / 2) * BAND * top
        _draw(axes, one, picture.limit - aside, top)
    axes.axhline(picture.limit, color=chart_png.ERRORS, linestyle=":", linewidth=1.4, label=picture.promise)
    if picture.asked is not None:
        axes.axvline(picture.asked[0], color=chart_png.SOFT, linestyle=":", linewidth=1, label=picture.asked[1])
    axes.set_xlim(0, picture.across_ticks()[-1].at)
    axes.set_ylim(0, top)
    axes.set_xlabel(picture.across, color=chart_png.SOFT)
    axes.set_ylabel(picture.up, color=chart_png.SOFT)
    rows = -(-(len(picture.series) + 1 + (picture.asked is not None)) // LEGEND_COLUMNS)
    axes.set_title(
        picture.title.replace("$", r"\$"), loc="left", color=chart_png.INK, size=11, weight="bold", pad=10 + 15 * rows
    )
    axes.grid(color=chart_png.GRID)
    axes.set_axisbelow(True)
    axes.tick_params(colors=chart_png.SOFT, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color("#9aa4b2")
    above: dict[str, Any] = {
        "loc": "lower left",
        "bbox_to_anchor": (-0.01, 0.99),
        "ncols": LEGEND_COLUMNS,
        "frameon": False,
    }
    axes.legend(labelcolor=chart_png.INK, fontsize=9, columnspacing=1.6, **above)
    figure.text(0.01, -0.01, _READING, color=chart_png.SOFT, size=8, va="top")
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", pad_inches=0.15)
    return file.getvalue()


_READING = (
    "curves: foretold   dots: measured, hollow where broken   diamonds: as planned   "
    "bands: 90 % interval   bars: predicted, then run"
)


def _draw(axes: Any, one: Series, band: float, top: float) -> None:
    colour = LIGHT[one.colour]
    curve = [(a, b) for a, b in one.curve if b <= top]
    axes.plot([a for a, _ in curve], [b for _, b in curve], color=colour, label=one.name, linewidth=1.6)
    for kept in (True, False):
        dots = [dot for dot in one.measured if dot.kept is kept]
        places, values = [dot.at for dot in dots], [min(dot.value, top) for dot in dots]
        face = colour if kept else "white"
        axes.plot(places, values, "o", color=colour, markerfacecolor=face, markersize=6, clip_on=False, zorder=3)
    for tried in one.tried:
        high = min(tried.high, top)
        axes.plot([tried.at] * 2, [min(tried.low, top), high], "_-", color=colour, markersize=9, linewidth=1.6)
    if one.carried is not None:
        interval = [one.carried.low, one.carried.high]
        axes.plot(interval, [band, band], color=colour, alpha=0.5, linewidth=5, solid_capstyle="butt", zorder=1)
        axes.plot(one.carried.at, one.carried.value, "D", color=colour, markeredgecolor="white", markersize=9, zorder=4)
