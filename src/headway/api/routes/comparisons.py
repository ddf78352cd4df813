"""Comparisons: what two versions of a model did, side by side, and which is better."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from headway.api.access import ModelName
from headway.api.answers import answer
from headway.api.openapi import refusals
from headway.api.parts import Parts
from headway.api.routes.query_log import Until
from headway.api.schemas_comparisons import ComparisonView
from headway.comparing.compare import KINDS
from headway.domain import query_conditions as conditions
from headway.domain.comparisons import Margins, MeasureKind
from headway.domain.errors import InvalidInput
from headway.domain.feedback import METRIC_NAME, METRIC_RULE
from headway.domain.names import check_version_name

_PLAIN = Margins()


def add_routes(api: APIRouter, parts: Parts) -> None:
    """``/v1/models/{model}/comparison``."""

    @api.get(
        "/v1/models/{model}/comparison",
        tags=["query log"],
        summary="Compare two versions",
        response_model=ComparisonView,
        responses={200: {"description": "Both versions, with intervals and an answer."}, **refusals(404, 409)},
    )
    async def compare(
        model: ModelName,
        base: Annotated[
            str | None, Query(description="Default: the base of the trial, else the older version of the split.")
        ] = None,
        version: Annotated[str | None, Query(description="The one that the answer is about.")] = None,
        since: Annotated[
            str | None,
            Query(description="Begin, as of a latency; default: since both had requests, a day back at most."),
        ] = None,
        until: Until = None,
        metric: Annotated[
            list[str] | None, Query(description="`latency`, `errors`, `outcome`, or the name of a metric.")
        ] = None,
        confidence: Annotated[float, Query(ge=0.5, lt=1, description="That no answer is ever wrong.")] = 0.95,
        latency_margin: Annotated[
            float, Query(ge=0, le=10, description="Share by which p50 and p95 may be worse.")
        ] = _PLAIN.latency,
        errors_margin: Annotated[
            float, Query(ge=0, le=1, description="Share of requests that may fail more.")
        ] = _PLAIN.errors,
        outcome_margin: Annotated[
            float | None, Query(ge=0, description="In the metric's unit; default: a tenth of its standard deviation.")
        ] = None,
    ) -> Response:
        """Latency, errors and feedback of both, each with an interval, and an answer for each and over all: better,
        worse, or not enough evidence. Look as often as you like: all differences hold together, at every look.

        Only requests count whose version the traffic split drew. Compare a span in which the split did not change.
        """
        service = parts.comparisons
        now_ns = service.now_ns()
        since_ns = None if since is None else conditions.instant_ns(since, now_ns, where="?since")
        until_ns = None if until is None else conditions.instant_ns(until, now_ns, where="?until")
        if since_ns is not None:
            conditions.check_span(since_ns, now_ns if until_ns is None else until_ns)
        for place, name in (("?base", base), ("?version", version)):
            if name is not None:
                check_version_name(name, where=place)
        kinds, metrics = measures_of(metric)
        found = await service.compare(
            model,
            base,
            version,
            since_ns=since_ns,
            until_ns=until_ns,
            kinds=kinds,
            metrics=metrics,
            margins=Margins(latency=latency_margin, errors=errors_margin, outcome=outcome_margin),
            confidence=confidence,
        )
        about = {
            "model": model,
            "since": found.since_ns / 1e9,
            "until": found.until_ns / 1e9,
            "feedback": found.feedback,
            "unmatched": found.unmatched,
        }
        return answer({**about, **found.comparison.document()})


def measures_of(named: list[str] | None) -> tuple[tuple[MeasureKind, ...], tuple[str, ...] | None]:
    """Which kinds, and which metrics of outcomes (None: all). Raises ``InvalidInput``."""
    if not named:
        return KINDS, None
    metrics = tuple(dict.fromkeys(name for name in named if name not in set(MeasureKind)))
    wrong = next((name for name in metrics if METRIC_NAME.fullmatch(name) is None), None)
    if wrong is not None:
        raise InvalidInput(f"{wrong[:60]!r} is no metric", where="?metric", hint=f"a metric's name is {METRIC_RULE}")
    asked = {MeasureKind(name) for name in named if name in set(MeasureKind)}
    if metrics:
        asked.add(MeasureKind.OUTCOME)
    return tuple(kind for kind in KINDS if kind in asked), metrics or None
