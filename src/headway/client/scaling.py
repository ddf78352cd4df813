"""Scaling over the control API: the policy of a model, what it decided, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from headway.api.schemas_scaling import DecisionPage, DecisionView, ExplainView, ScalingChange, ScalingView, UsageView
from headway.client.connection import CONTROL, Connection
from headway.client.query_log import GIVE_UP_S, Instant, instant_text
from headway.client.rollout import Time
from headway.client.wire import view_of
from headway.domain.errors import ControlUnreachable, DeadlineExceeded, MissingExtra
from headway.domain.names import check_model_name, check_version_name

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS: Final = ("version", "current", "desired", "changed", "binding", "summary", "shadow", "cursor")


class Decisions(list[DecisionView]):
    """Recorded decisions, oldest first."""

    def to_frame(self) -> DataFrame:
        """A pandas ``DataFrame``, one row per decision.

        Index: ``at`` (UTC). Columns: ``version``, ``current``, ``desired``, ``changed``, ``binding``, ``summary``,
        ``shadow``, ``cursor``; ``document`` holds the rest, as a dictionary. Raises ``MissingExtra`` without pandas.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtra("a DataFrame needs pandas", hint="pip install 'headway[pandas]'") from None
        columns: dict[str, Any] = {name: [getattr(one, name) for one in self] for name in (*COLUMNS, "document")}
        moments = pd.to_datetime([one.at for one in self], unit="s", utc=True)
        return pd.DataFrame(columns, index=pd.DatetimeIndex(moments, name="at"))


class ScalingCalls:
    """The part of :class:`headway.client.Client` that looks after scaling.

    Instants are given as in the query log's questions: a length before now (``"30m"``), an instant as text, in seconds
    since the epoch or as an aware ``datetime``. All of it raises ``ModelNotFound``.
    """

    _connection: Connection

    def scaling(self, name: str) -> ScalingView:
        """How a model is scaled, of each version the wished and ready replicas, its latest decision and signals."""
        return view_of(ScalingView, self._connection.ask("GET", _place(name, "scaling")), CONTROL)

    def follow_scaling(self, name: str, *, every_s: float = 1.0) -> Iterator[ScalingView]:
        """As :meth:`scaling`, again and again, for ever; it outlives restarts of the control plane.

        Raises ``ControlUnreachable`` when nothing has answered for a minute, at once when nothing ever did.
        """
        return follow(self._connection, lambda: self.scaling(name), every_s)

    def usage(self, name: str) -> UsageView:
        """What the ready replicas have used so far; the difference of two answers is a rate."""
        return view_of(UsageView, self._connection.ask("GET", _place(name, "usage")), CONTROL)

    def set_scaling(self, name: str, document: Mapping[str, Any] | None) -> ScalingChange:
        """Scale by ``document``, which is what ``spec.scaling`` would say; None: a fixed number, as many as there are.

        It takes the place of the policy there was; what it leaves out has its default. Raises ``InvalidSpec``.
        """
        body = {"scaling": None if document is None else dict(document)}
        return view_of(ScalingChange, self._connection.ask("PUT", _place(name, "scaling"), body=body), CONTROL)

    def decisions(
        self,
        name: str,
        *,
        version: str | None = None,
        since: Instant | None = None,
        until: Instant | None = None,
        changed: bool = False,
        workers: bool = False,
        last: int = 100,
    ) -> Decisions:
        """The ``last`` so many recorded decisions, 1,000 at most, oldest first.

        Recorded is all that changed anything, and about one a minute that did not; ``changed``: only the former.
        ``workers``: those about the workers of its jobs, instead of its replicas.
        """
        params = {
            "version": _version(version),
            "since": instant_text(since, "since"),
            "until": instant_text(until, "until"),
            "changed": changed or None,
            "role": "work" if workers else None,
            "limit": last,
        }
        page = view_of(DecisionPage, self._connection.ask("GET", _place(name, "decisions"), params=params), CONTROL)
        return Decisions(page.decisions)

    def explain(
        self,
        name: str,
        at: Instant | None = None,
        *,
        version: str | None = None,
        changed: bool = False,
        workers: bool = False,
    ) -> ExplainView:
        """Of each version in the split, or of ``version``, the decision in force at ``at`` (now), told in plain words.

        ``changed``: the last one until then that changed the number of replicas. ``workers``: about the workers of its
        jobs, of each version that has any or shall have.
        """
        params = {
            "at": instant_text(at, "at"),
            "version": _version(version),
            "changed": changed or None,
            "role": "work" if workers else None,
        }
        return view_of(ExplainView, self._connection.ask("GET", _place(name, "explain"), params=params), CONTROL)


def follow(
    connection: Connection, look: Callable[[], ScalingView], every_s: float, time: Time | None = None
) -> Iterator[ScalingView]:
    """What ``look`` sees, for ever, as :meth:`ScalingCalls.follow_scaling` tells it."""
    clock, answered_at = time or Time(), None
    while True:
        try:
            view = look()
        except (ControlUnreachable, DeadlineExceeded):
            if answered_at is None or clock.now() - answered_at > GIVE_UP_S:
                raise
            connection.find_again()
        else:
            answered_at = clock.now()
            yield view
        clock.pause(every_s)


def _place(name: str, what: str) -> str:
    return f"/v1/models/{check_model_name(name)}/{what}"


def _version(version: str | None) -> str | None:
    return None if version is None else check_version_name(version)
