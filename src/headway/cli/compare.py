"""``headway compare``: two versions side by side, and which is better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from headway.cli.completion import model_names
from headway.cli.output import Format, OutputOption, emit_json, is_json, moment, note, say, table
from headway.cli.query_log import PANEL, Until, options_named
from headway.domain.errors import InvalidInput
from headway.domain.names import check_model_name

if TYPE_CHECKING:
    from headway.api.schemas_comparisons import ComparisonView, FigureView, IntervalView, MeasureView

COLOURS = {"better": "green", "worse": "red", "not enough evidence": "yellow"}


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(rich_help_panel=PANEL)(compare)


def share(text: str, where: str, *, most: float) -> float:
    """``10%`` or ``0.1`` -> 0.1. Raises ``InvalidInput``."""
    digits = text.strip()
    try:
        value = float(digits.removesuffix("%")) / 100 if digits.endswith("%") else float(digits)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise InvalidInput(f"{text[:40]!r} is no share", where=where, hint="for example 10% or 0.1")
    return value


def compare(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=model_names)],
    base: Annotated[
        str | None, typer.Argument(metavar="BASE", help="Default: those on trial, else the two of the split.")
    ] = None,
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="The version that the answer is about.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="From then on: so long ago (10m, 1d), or 2026-05-01T12:00Z. Default: since both ran."
        ),
    ] = None,
    until: Until = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="METRIC", help="latency, errors, outcome, or a name of feedback; repeatable."),
    ] = None,
    confidence: Annotated[
        str, typer.Option(metavar="PERCENT", help="That no answer is ever wrong, however often you look.")
    ] = "95%",
    latency_margin: Annotated[str, typer.Option(metavar="PERCENT", help="How much worse p50 and p95 may be.")] = "10%",
    errors_margin: Annotated[str, typer.Option(metavar="PERCENT", help="How many more requests may fail.")] = "0.5%",
    outcome_margin: Annotated[
        float | None, typer.Option(metavar="NUMBER", min=0, help="How much worse feedback may be, in its own unit.")
    ] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Compare two versions by latency, errors and feedback.

    The answer is better, worse or not enough evidence; it may be looked at as often as you like. Only requests count
    whose version the traffic split drew.
    """
    from headway.client import Client

    check_model_name(name)
    with Client() as client, options_named():
        found = client.compare(
            name,
            base,
            version,
            since=since,
            until=until,
            metrics=metric or (),
            confidence=share(confidence, "--confidence", most=0.999999),
            latency_margin=share(latency_margin, "--latency-margin", most=10),
            errors_margin=share(errors_margin, "--errors-margin", most=1),
            outcome_margin=outcome_margin,
        )
    if is_json():
        emit_json(found)
    else:
        print_comparison(found)


def print_comparison(found: ComparisonView) -> None:
    """For people."""
    colour = COLOURS.get(found.answer, "white")
    within = ", and no worse than the margins allow" if found.within and found.answer != "worse" else ""
    both = f"[bold]{escape(found.model)}[/]: {found.version} compared with {found.base}"
    say(f"{both}: [{colour}]{found.answer}[/]{within}")
    requests = f"{found.requests[0]:,} and {found.requests[1]:,} requests"
    say(f"  {requests}, {moment(found.since)} to {moment(found.until)}")
    say("")
    rows = [row for measure in found.measures for row in _rows(measure)]
    columns = ("measure", "count", found.base, f"{found.base} between", found.version, f"{found.version} between")
    table((*columns, "difference", "margin", "answer"), rows, empty="nothing was compared")
    say("")
    note(f"all differences hold together, at every look, with {found.confidence * 100:g} %")
    if found.unmatched:
        note(f"{found.unmatched:,} of {found.feedback:,} pieces of feedback name no request of this time")


def _rows(measure: MeasureView) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for figure in measure.figures:
        kind, name = measure.kind, measure.metric or measure.kind
        label = name if kind != "latency" else f"{name} {figure.name}"
        counts = f"{measure.counts[0]:,} / {measure.counts[1]:,}"
        values = (_value(figure.base, kind), _span(figure.base_interval, kind))
        others = (_value(figure.version, kind), _span(figure.version_interval, kind), _span(figure.difference, kind))
        margin = _value(figure.margin, kind) if figure.judged else "-"
        rows.append((label, counts, *values, *others, margin, _answer(figure)))
    return rows


def _answer(figure: FigureView) -> str:
    if not figure.judged:
        return "(not judged)"
    return f"{figure.answer}, within margin" if figure.within and figure.answer != "better" else figure.answer


def _span(interval: IntervalView, kind: str) -> str:
    return f"{_value(interval.low, kind)} .. {_value(interval.high, kind)}"


def _value(value: float | None, kind: str) -> str:
    if value is None:
        return "?"
    if kind == "latency":
        return f"{value * 1000:.3g} ms"
    return f"{value * 100:.3g} %" if kind == "errors" else f"{value:.4g}"
