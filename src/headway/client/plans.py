"""Capacity plans over the control API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headway.api.schemas_plans import PlanPage, PlanView
from headway.client.connection import CONTROL, Connection
from headway.client.wire import view_of
from headway.domain.names import check_model_name


class PlanCalls:
    """The part of :class:`headway.client.Client` that looks after capacity plans."""

    _connection: Connection

    def plans(self, name: str, *, requests: str = "", last: int = 1) -> PlanPage:
        """The newest ``last`` plans of a model, newest first, and what a plan made now would be of.

        ``requests``: digest of the requests that would be sent now; a plan made with others is stale. Raises
        ``ModelNotFound``.
        """
        params = {"requests": requests or None, "limit": last}
        return view_of(PlanPage, self._connection.ask("GET", _place(name), params=params), CONTROL)

    def add_plan(self, name: str, version: str, requests: str, document: Mapping[str, Any]) -> PlanView:
        """Keep a plan that was measured with ``version``. Raises ``Conflict`` when another version serves by now."""
        body = {"version": version, "requests": requests, "document": dict(document)}
        return view_of(PlanView, self._connection.ask("POST", _place(name), body=body), CONTROL)


def _place(name: str) -> str:
    return f"/v1/models/{check_model_name(name)}/plans"
