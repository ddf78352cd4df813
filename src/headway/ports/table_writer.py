"""TableWriter: tables as files that other tools read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Protocol

from headway.domain.tables import Column, Row


class TableWriter(Protocol):
    """Takes a table batch by batch and never holds all of it in memory."""

    def parquet(self, columns: Sequence[Column], batches: AsyncIterator[Sequence[Row]]) -> AsyncGenerator[bytes, None]:
        """The table as a Parquet file, in pieces; the first comes once all batches are taken.

        Rows have as many cells as there are columns. Raises ``StorageFailed`` when there is no room for it, and
        what ``batches`` raises. Nothing is left behind when the generator is closed early.
        """
        ...
