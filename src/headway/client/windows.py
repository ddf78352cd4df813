"""Windows of latency as the server answers them, and all windows of the span with the empty ones in their places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from headway.api.schemas_query_log import LatencyView, WindowView
from headway.domain.errors import MissingExtra

if TYPE_CHECKING:
    from pandas import DataFrame

FIGURES: Final = ("count", "timed", "errors", "rate_per_s", "average_ms", "p50_ms", "p75_ms", "p95_ms", "p99_ms")

ROUNDING_S: Final = 1e-6
"""Instants as seconds since the epoch are exact to a quarter of a microsecond."""


class Windows(LatencyView):
    """Latency over windows: a ``LatencyView``, which holds the windows with requests, and two ways to see them all."""

    def groups(self) -> list[tuple[str, ...]]:
        """The groups that occur, in order; ``[()]`` when windows are not split."""
        return sorted({self._group(one) for one in self.windows}) if self.by else [()]

    def busiest(self, count: int) -> list[tuple[str, ...]]:
        """The ``count`` groups with the most requests, in the order of :meth:`groups`."""
        requests: Counter[tuple[str, ...]] = Counter()
        for one in self.windows:
            requests[self._group(one)] += one.count
        return sorted(group for group, _ in requests.most_common(count)) if self.by else [()]

    def spans(self) -> list[tuple[float, float]]:
        """Begin and end of every window, empty ones too."""
        begins = [self.since + number * self.window_s for number in range(self._count())]
        return list(zip(begins, [*begins[1:], self.until], strict=True)) if begins else []

    def place(self, one: WindowView) -> int:
        """Where a window stands in :meth:`spans`."""
        return min(round((one.start - self.since) / self.window_s), self._count() - 1)

    def grid(self, groups: Sequence[tuple[str, ...]] | None = None) -> dict[tuple[str, ...], list[WindowView | None]]:
        """Of every group, or of ``groups``, one entry per window of :meth:`spans`; None where it had no request."""
        count = self._count()
        chosen = self.groups() if groups is None else groups
        found: dict[tuple[str, ...], list[WindowView | None]] = {group: [None] * count for group in chosen}
        for one in self.windows:
            if (line := found.get(self._group(one))) is not None:
                line[self.place(one)] = one
        return found

    def to_frame(self) -> DataFrame:
        """A pandas ``DataFrame``, one row per window and group; without a request it has count 0 and no latencies.

        Index: ``start`` (UTC). Columns: ``end``, one for each of ``by``, ``count``, ``timed``, ``errors``,
        ``rate_per_s`` (requests a second), ``average_ms``, ``p50_ms``, ``p75_ms``, ``p95_ms``, ``p99_ms``
        (milliseconds, NaN without timed requests). ``attrs`` has ``model``, ``field``, ``exact``, ``relative_error``
        and ``losses``. Raises ``MissingExtra`` without pandas.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtra("a DataFrame needs pandas", hint="pip install 'headway[pandas]'") from None
        spans, grid = self.spans(), self.grid()
        rows = [(span, group, grid[group][place]) for place, span in enumerate(spans) for group in grid]
        columns: dict[str, Any] = {"end": pd.to_datetime([end for (_, end), _, _ in rows], unit="s", utc=True)}
        for place, name in enumerate(self.by):
            columns[name] = [group[place] for _, group, _ in rows]
        for name in FIGURES:
            missing = None if name.endswith("_ms") else 0
            values = [missing if one is None else getattr(one, name) for _, _, one in rows]
            kind = "int64" if name in ("count", "timed", "errors") else "float64"
            columns[name] = pd.Series(values, dtype=kind).to_numpy()
        starts = pd.to_datetime([begin for (begin, _), _, _ in rows], unit="s", utc=True)
        frame = pd.DataFrame(columns, index=pd.DatetimeIndex(starts, name="start"))
        frame.attrs = {
            "model": self.model,
            "field": self.field,
            "exact": self.exact,
            "relative_error": self.relative_error,
            "losses": self.losses.model_dump(),
        }
        return frame

    def _count(self) -> int:
        return ceil((self.until - self.since - ROUNDING_S) / self.window_s)

    def _group(self, one: WindowView) -> tuple[str, ...]:
        return tuple(one.group[name] for name in self.by)
