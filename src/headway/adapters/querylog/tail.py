"""What stands in segments and in the gateway's log and in no part yet: read once, kept as columns, given to questions.

Every look reads only what was added. At most ``max_rows`` records of segments are kept: above that, segments that are
complete are let go, the oldest first, and read again by each question about their time. That is slower and as right;
compaction, which takes complete segments away, is what keeps it from happening.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from headway.adapters.querylog.chunks import Chunk, Chunks
from headway.adapters.querylog.columns import Columns
from headway.adapters.querylog.feedback_rows import FeedbackRow
from headway.adapters.querylog.gateway_lines import Claim
from headway.adapters.querylog.gateway_tail import GatewayTail
from headway.adapters.querylog.losses import account_of, grown, losses_of
from headway.adapters.querylog.manifest import NO_MODEL, Account
from headway.adapters.querylog.segments import SegmentReader, read_segment, stream_and_number
from headway.domain.query_log import Losses
from headway.domain.query_segments import SUFFIX

MAX_ROWS: Final = 2_000_000
"""About 250 MB."""
MAX_ACCOUNTS: Final = 10_000
"""Of segments that are gone, by model."""
_TRIES: Final = 5


class _Segment:
    def __init__(self, path: Path) -> None:
        self.reader = SegmentReader(path)
        self.chunks = Chunks()
        self.feedback: list[tuple[FeedbackRow, ...]] = []
        self.let_go = False
        self.first_ns = self.last_ns = 0


@dataclass(slots=True)
class _Model:
    segments: dict[str, _Segment] = field(default_factory=dict)
    """By file name."""
    accounts: dict[tuple[str, int], Account] = field(default_factory=dict)
    """By stream and number, of segments here and of some that are gone."""
    earlier: Losses = field(default_factory=Losses)
    """Of those whose accounts were forgotten."""
    reported: Losses = field(default_factory=Losses)


@dataclass(frozen=True, slots=True)
class View:
    """All that is in no part, of one model, as it was at one moment."""

    names: frozenset[str]
    """For ``PartStore.parts``."""
    chunks: tuple[tuple[str, Chunk], ...]
    """By the name of their source."""
    let_go: tuple[Path, ...]
    """To be read again."""
    claims: tuple[Claim, ...]
    """On records of that time."""
    accounts: tuple[Account, ...]
    """Of all segments that are there."""
    lines_missing: int
    """Of the gateway's."""
    feedback: tuple[tuple[FeedbackRow, ...], ...] = ()
    """All of it, whatever its time."""

    def pieces(self) -> Iterator[tuple[str, Columns]]:
        """Records and their source. Raises ``FileNotFoundError`` when a segment has become parts meanwhile."""
        for source, chunk in self.chunks:
            yield source, chunk.columns
        for path in self.let_go:
            yield path.name, read_segment(path)[1]


class Tail:
    """For several threads."""

    def __init__(self, segments_root: Path, gateway_root: Path, *, max_rows: int = MAX_ROWS) -> None:
        self._root = segments_root
        self._max_rows = max_rows
        self._lock = threading.Lock()
        self._models: dict[str, _Model] = {}
        self._gateway = GatewayTail(gateway_root)

    def look(self) -> tuple[int, dict[str, Losses]]:
        """Read everything that was added: how many records, and what was newly found lost, by model."""
        with self._lock:
            names = self._names()
            records = sum(self._look(name) for name in names)
            records += self._gateway.look(names)
            newly = {}
            for name in [*names, NO_MODEL]:
                model = self._models.setdefault(name, _Model())
                now = self._losses(name, model)
                lost = grown(model.reported, now)
                if lost.any:
                    newly[name] = lost
                model.reported = now
            return records, newly

    def view(self, name: str, since_ns: int, until_ns: int) -> View:
        """What is there of model ``name``; records of ``[since_ns, until_ns)`` and some around. Raises ``OSError``."""
        with self._lock:
            names = self._names()
            if name in names:
                self._look(name)
            self._gateway.look(names)
            model = self._models.setdefault(name, _Model()) if name in names or name == NO_MODEL else _Model()
            chunks: list[tuple[str, Chunk]] = []
            let_go: list[Path] = []
            for segment in model.segments.values():
                if not segment.let_go:
                    chunks += [(segment.reader.path.name, chunk) for chunk in segment.chunks]
                elif segment.first_ns < until_ns and segment.last_ns >= since_ns:
                    let_go.append(segment.reader.path)
            if name in self._gateway.chunks:
                chunks += [(self._gateway.live_name, chunk) for chunk in self._gateway.chunks[name]]
            here = [(segment.reader.stream, segment.reader.number) for segment in model.segments.values()]
            return View(
                names=frozenset((*model.segments, self._gateway.live_name)),
                chunks=tuple((source, chunk) for source, chunk in chunks if chunk.overlaps(since_ns, until_ns)),
                let_go=tuple(let_go),
                claims=tuple(
                    claim
                    for claim in self._gateway.claims.get(name, ())
                    if claim.from_ns < until_ns and claim.until_ns >= since_ns
                ),
                accounts=tuple(model.accounts[key] for key in here if key in model.accounts),
                lines_missing=self._gateway.missing,
                feedback=tuple(rows for segment in model.segments.values() for rows in segment.feedback),
            )

    # -- segments ----------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        try:
            with os.scandir(self._root) as entries:
                return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
        except FileNotFoundError:
            return []

    def _look(self, name: str) -> int:
        model = self._models.setdefault(name, _Model())
        found = 0
        for _ in range(_TRIES):
            listed = self._listed(name)
            for gone in model.segments.keys() - listed:
                del model.segments[gone]
            try:
                for file_name in sorted(listed, key=stream_and_number):
                    found += self._read(model, listed[file_name], file_name)
                break
            except FileNotFoundError:
                continue  # it became parts after it was listed: what is live is another set now
        else:
            raise FileNotFoundError(f"segments of {name} vanish while they are read")
        self._forget(model)
        self._let_go()
        return found

    def _listed(self, name: str) -> dict[str, Path]:
        """Segments by file name."""
        folder = self._root / name
        try:
            found = os.listdir(folder)
        except FileNotFoundError:
            return {}
        return {file: folder / file for file in found if file.endswith(SUFFIX) and not file.startswith(".")}

    def _read(self, model: _Model, path: Path, file_name: str) -> int:
        """Take in what was added to a segment."""
        segment = model.segments.get(file_name)
        if segment is None:
            segment = model.segments[file_name] = _Segment(path)
        reader = segment.reader
        added = reader.read()
        if reader.late_ids:
            segment.chunks.add_long_ids(reader.late_ids)
            reader.late_ids.clear()
        segment.chunks.add(added)
        if reader.feedback:
            segment.feedback.append(tuple(reader.feedback))
            reader.feedback = []
        model.accounts[reader.stream, reader.number] = account_of(reader)
        if segment.chunks.rows:
            segment.first_ns, segment.last_ns = segment.chunks.first_ns, segment.chunks.last_ns
        return len(added)

    def _let_go(self) -> None:
        """Keep no more than ``max_rows``."""
        kept = [segment for model in self._models.values() for segment in model.segments.values() if not segment.let_go]
        rows = sum(segment.chunks.rows for segment in kept)
        for segment in sorted(kept, key=lambda segment: segment.last_ns):
            if rows <= self._max_rows:
                break
            if segment.reader.final:
                rows -= segment.chunks.rows
                segment.let_go, segment.chunks = True, Chunks()

    # -- losses ------------------------------------------------------------------------------------

    def _losses(self, name: str, model: _Model) -> Losses:
        """Of all that this process has seen."""
        lost = model.earlier + losses_of(model.accounts.values())
        return lost + Losses(missing=self._gateway.missing) if name == NO_MODEL else lost

    @staticmethod
    def _forget(model: _Model) -> None:
        """Sum up what is known of segments that are gone, when there are many."""
        if len(model.accounts) > MAX_ACCOUNTS:
            here = {(segment.reader.stream, segment.reader.number) for segment in model.segments.values()}
            kept = {key: account for key, account in model.accounts.items() if key in here}
            model.earlier += grown(losses_of(kept.values()), losses_of(model.accounts.values()))
            model.accounts = kept
