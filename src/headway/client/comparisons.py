"""Feedback on predictions, and comparisons of the versions that made them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headway.api.schemas_comparisons import ComparisonView
from headway.client.connection import CONTROL, Connection
from headway.client.wire import view_of
from headway.domain.names import check_model_name, check_version_name


class ComparisonCalls:
    """The part of :class:`headway.client.Client` that tells which version is better."""

    _connection: Connection
    _gateway: Callable[[], str]

    def feedback(self, name: str, feedback: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> int:
        """Tell what became of predictions, through the gateway; how many pieces were taken (all, or none).

        Each names the ``request_id`` of the prediction (the answer's header ``x-request-id``) and has a ``reward`` or
        an ``outcome``; see ``POST /feedback`` of the model server. Raises ``InvalidRequest``, ``ModelNotFound``,
        ``NotReady`` when it could not be written.
        """
        told = dict(feedback) if isinstance(feedback, Mapping) else [dict(one) for one in feedback]
        path = f"/models/{check_model_name(name)}/feedback"
        answer = self._connection.predict(self._gateway(), path, json.dumps(told).encode(), "application/json")
        return int(json.loads(answer)["recorded"])

    def compare(
        self,
        name: str,
        base: str | None = None,
        version: str | None = None,
        *,
        since: str | None = None,
        until: str | None = None,
        metrics: Sequence[str] = (),
        confidence: float = 0.95,
        latency_margin: float | None = None,
        errors_margin: float | None = None,
        outcome_margin: float | None = None,
    ) -> ComparisonView:
        """``version`` side by side with ``base``; by default those on trial, else the two of the split.

        ``since``, ``until``: as of :meth:`latency`; by default since both had requests, a day back at most.
        ``metrics``: ``latency``, ``errors``, ``outcome``, or names of feedback; by default all. Margins say how much
        worse it may be: a share of p50 and p95, a share of requests, and in the metric's own unit. Raises
        ``ModelNotFound``, ``VersionNotFound``, ``Conflict`` when nothing says which two are meant.
        """
        params = {
            "base": None if base is None else check_version_name(base),
            "version": None if version is None else check_version_name(version),
            "since": since,
            "until": until,
            "metric": list(metrics) or None,
            "confidence": confidence,
            "latency_margin": latency_margin,
            "errors_margin": errors_margin,
            "outcome_margin": outcome_margin,
        }
        path = f"/v1/models/{check_model_name(name)}/comparison"
        return view_of(ComparisonView, self._connection.ask("GET", path, params=params), CONTROL)
