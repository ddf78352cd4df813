"""Windows for people: what was asked, a curve per group, a line per window, the whole span last. Pure.

Latencies are in milliseconds with three significant digits. A window without requests is a line of dashes: its
latency is unknown, not 0. Quantiles of windows do not add up to those of the span, so the span is asked for as a
window of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.text import Text

from headway.cli.axes import figure
from headway.cli.output import count_text, moment
from headway.cli.sparkline import mean, sparkline, squeeze

if TYPE_CHECKING:
    from headway.api.schemas_query_log import LossesView, WindowView
    from headway.client.windows import Windows

GAP: Final = "  "
_NO_ERRORS: Final = ("0", "-", "errors")
LATENCIES: Final = ("average_ms", "p50_ms", "p75_ms", "p95_ms", "p99_ms")
HEADS: Final = ("count", "rate/s", "errors", "avg ms", "p50", "p75", "p95", "p99")
MOST_CURVES: Final = 8
"""Groups with a curve of their own: those with the most requests."""


def report(found: Windows, total: Windows | None, *, width: int, curves: bool) -> Iterator[Text]:
    """The lines. ``total``: the same question with one window. ``curves``: for a terminal ``width`` wide."""
    yield Text(f"{title(found)}, {period(found)}", "bold")
    if not found.windows:
        yield Text("no requests in this time")
    else:
        if curves and len(found.spans()) > 1:
            yield Text()
            yield from _curves(found, width)
        yield Text()
        yield from _table(found, total)
    yield from (Text(line, "dim") for line in sketch_text(found))
    yield from (Text(line, "yellow") for line in losses_text(found.losses))


def title(found: Windows) -> str:
    """``iris: total time in windows of 1m``."""
    what = {"total": "total time", "queue": "time in the queue"}.get(found.field, f"time to {found.field}")
    return f"{found.model}: {what} in windows of {length(found.window_s)}"


def period(found: Windows) -> str:
    """``2026-11-22 06:00:00Z to 06:30:00Z``."""
    begin, end = moment(found.since), moment(found.until)
    return f"{begin} to {end[11:] if begin[:10] == end[:10] else end}"


def totals(found: Windows) -> str:
    """Requests and errors of all windows; the latencies too when there is but one."""
    count, errors = sum(one.count for one in found.windows), sum(one.errors for one in found.windows)
    told = [f"{count:,} request{'' if count == 1 else 's'}", f"{errors:,} error{'' if errors == 1 else 's'}"]
    if len(found.windows) == 1:
        (one,) = found.windows
        figures = ((name, getattr(one, f"{name}_ms")) for name in ("average", "p50", "p75", "p95", "p99"))
        told += [f"{name} {figure(value)} ms" for name, value in figures if value is not None]
    return ", ".join(told)


def length(seconds: float) -> str:
    """``90 s`` as ``1m30s``; below a second in milliseconds."""
    if seconds < 1:
        return f"{seconds * 1e3:.6g}ms"
    whole, rest = divmod(seconds, 1)
    if rest:
        return f"{seconds:.6g}s"
    parts = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, whole = divmod(int(whole), size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts)


def sketch_text(found: Windows) -> list[str]:
    """A sentence when the figures do not come from the records themselves."""
    if found.exact:
        return []
    bound = f"{found.relative_error * 100:.2g} %"
    return [f"quantiles are within {bound} of the true ones (from sketches); --exact reads every record"]


def losses_text(losses: LossesView) -> list[str]:
    """A sentence when the log is known to be incomplete."""
    kinds = (
        (losses.dropped, f"{count_text(losses.dropped, 'record')} could not be stored"),
        (losses.missing, f"{count_text(losses.missing, 'record')} missing"),
        (losses.torn, f"{count_text(losses.torn, 'segment')} with a damaged end"),
    )
    lost = [text for count, text in kinds if count]
    told = [f"the log is incomplete: {', '.join(lost)}"] if lost else []
    if losses.clock_steps:
        times = count_text(losses.clock_steps, "time")
        told.append(f"the clock was set back {times}: windows around it mix two passes of the same time")
    return told


def printable(value: str) -> str:
    """``value`` in one line without control characters, which would move a terminal's cursor; a dash when empty."""
    return "".join(char if char.isprintable() else "\ufffd" for char in value) or "-"


def aligned(rows: Sequence[Sequence[str]], texts: int) -> list[list[str]]:
    """Cells padded to columns of equal width: the first ``texts`` to the left, figures to the right."""
    widths = [max(cell_len(row[place]) for row in rows) for place in range(len(rows[0]))]

    def padded(cell: str, place: int) -> str:
        room = " " * (widths[place] - cell_len(cell))
        return cell + room if place < texts else room + cell

    return [[padded(cell, place) for place, cell in enumerate(row)] for row in rows]


def _curves(found: Windows, width: int) -> Iterator[Text]:
    """The 95th percentile and the rate over time, of each group, on scales that all groups share."""
    grid = found.grid(found.busiest(MOST_CURVES))
    label = max(cell_len(_name(group)) for group in grid)
    p95 = {group: [None if one is None else one.p95_ms for one in line] for group, line in grid.items()}
    rate = {group: [None if one is None else one.rate_per_s for one in line] for group, line in grid.items()}
    top_p95, top_rate = _top(p95.values()), _top(rate.values())
    texts = (f"p95, top {figure(top_p95)} ms", f"rate, top {figure(top_rate)}/s")
    room = width - label - len(GAP) * (1 if label else 0)
    if not found.by:
        room -= max(map(len, texts)) + len(GAP)
        for values, text, merge, style in (
            (p95[()], texts[0], max, "cyan"),
            (rate[()], texts[1], mean, "green"),
        ):
            points = squeeze(values, room, merge)
            top = _top([points])
            yield Text.assemble((sparkline(points, top), style), GAP, (text, "dim"))
        return
    each = max((room - len(GAP)) // 2, len(texts[0]), len(texts[1]))
    ends = min(each, len(found.spans()))
    ends = max(ends, len(texts[0]), len(texts[1]))
    yield Text(f"{'':{label}}{GAP}{texts[0]:<{ends}}{GAP}{texts[1]}", "dim")
    for group in grid:
        curve = sparkline(squeeze(p95[group], each, max), top_p95)
        yield Text.assemble(
            _name(group) + " " * (label - cell_len(_name(group))),
            GAP,
            (f"{curve:<{ends}}", "cyan"),
            GAP,
            (sparkline(squeeze(rate[group], each, mean), top_rate), "green"),
        )


def _top(lines: Iterable[Sequence[float | None]]) -> float:
    return max((value for line in lines for value in line if value is not None), default=0.0)


def _table(found: Windows, total: Windows | None) -> Iterator[Text]:
    spans, begins = found.spans(), _begins(found)
    by_span: list[list[WindowView]] = [[] for _ in spans]
    for one in found.windows:
        by_span[found.place(one)].append(one)
    rows: list[tuple[str, ...]] = [("start (UTC)", *found.by, *HEADS)]
    styles = ["bold"]
    for begin, windows in zip(begins, by_span, strict=True):
        if not windows:
            rows.append((begin, *(["-"] * (len(found.by) + len(HEADS)))))
            styles.append("dim")
        for one in windows:
            rows.append((begin, *_cells(found, one)))
            styles.append("")
    if total is not None:
        for one in total.windows:
            rows.append(("whole span", *_cells(found, one)))
            styles.append("bold")
    failed = 1 + len(found.by) + HEADS.index("errors")
    for cells, style in zip(aligned(rows, 1 + len(found.by)), styles, strict=True):
        told = [
            Text(cell, "red" if place == failed and cell.strip() not in _NO_ERRORS else "")
            for place, cell in enumerate(cells)
        ]
        line = Text(GAP, style).join(told)
        line.rstrip()
        yield line


def _cells(found: Windows, one: WindowView) -> tuple[str, ...]:
    latencies = (getattr(one, name) for name in LATENCIES)
    return (
        *(printable(one.group[name]) for name in found.by),
        f"{one.count:,}",
        figure(one.rate_per_s),
        f"{one.errors:,}",
        *("-" if value is None else figure(value) for value in latencies),
    )


def _begins(found: Windows) -> list[str]:
    """Starts of windows as short as they can be: without the date within one day, with milliseconds when windows
    are not of whole seconds."""
    at = [datetime.fromtimestamp(round(begin, 3), UTC) for begin, _ in found.spans()]
    date = "" if at and at[0].date() == at[-1].date() else "%Y-%m-%d "
    if found.window_s % 1 == 0:
        return [one.strftime(f"{date}%H:%M:%S") for one in at]
    return [one.strftime(f"{date}%H:%M:%S.%f")[:-3] for one in at]


def _name(group: tuple[str, ...]) -> str:
    return " ".join(printable(part) for part in group)
