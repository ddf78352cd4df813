"""What the master of a load test is told, and what it tells: an order in, lines of a log out.

Who asks for the test has read all options and files; the order holds what came of them, so that an option means the
same wherever the load comes from. The log has a JSON object in each line: an interval, an error, or a part of the
report, which is packed since a line of a container's log should be short.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Final

import msgspec

from headway.domain.errors import ClusterFailed, HeadwayError, InvalidInput
from headway.domain.load_documents import point_of, report_of, to_document, to_plain
from headway.domain.load_reports import LoadPoint, LoadReport
from headway.domain.load_shapes import LoadShape
from headway.domain.promises import Promise

LINE_BYTES: Final = 8192
"""Of the packed report in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOrder:
    """One load test, with nothing left to be looked up but the model itself."""

    model: str
    url: str
    shape: LoadShape
    data: bytes = b""
    """The rows to make requests of, as a JSON list. Empty: rows that fit what the model says of its inputs; with a
    locustfile there are none."""
    rows: int = 1
    sizes: list[int] = field(default_factory=list)
    """Of a replay: the rows of each of its requests."""
    promises: list[Promise] = field(default_factory=list)
    stop_at_breach: bool = False
    timeout_s: float = 30.0
    locustfile: bytes | None = None
    workers: int = 1
    patience_s: float = 300.0
    """How long to wait for the workers."""

    def packed(self) -> bytes:
        """As bytes, the same for the same order; recorded arrivals to the microsecond."""
        due_us = [round(at_s * 1e6) for at_s in self.shape.offsets_s]
        gaps_us = [after - before for before, after in zip([0, *due_us], due_us, strict=False)]
        rest = replace(self, shape=replace(self.shape, offsets_s=()), sizes=[])
        wire = _Wire(rest, _planes(gaps_us), _planes(self.sizes))
        return gzip.compress(msgspec.msgpack.encode(wire), mtime=0)


def order_of(packed: bytes) -> LoadOrder:
    """Raises ``InvalidInput`` for what is none."""
    try:
        wire = msgspec.msgpack.decode(gzip.decompress(packed), type=_Wire)
        due_us = accumulate(_numbers(wire.gaps_us))
        shape = replace(wire.rest.shape, offsets_s=tuple(at_us / 1e6 for at_us in due_us))
        return replace(wire.rest, shape=shape, sizes=_numbers(wire.sizes))
    except (OSError, EOFError, zlib.error, ValueError, msgspec.MsgspecError) as error:
        raise InvalidInput(f"this is no order for a load test: {error}", where="--order") from None


class _Wire(msgspec.Struct, array_like=True):
    """An order on its way. Long columns of numbers stand beside it, which so are packed to a third."""

    rest: LoadOrder
    gaps_us: bytes
    sizes: bytes


def _planes(numbers: Sequence[int]) -> bytes:
    """All first bytes, then all second ones, …: those that say nothing are next to each other, and pack to nothing."""
    raw = struct.pack(f"<{len(numbers)}Q", *numbers)
    return b"".join(raw[place::8] for place in range(8))


def _numbers(planes: bytes) -> list[int]:
    count = len(planes) // 8
    raw = bytearray(8 * count)
    for place in range(8):
        raw[place::8] = planes[place * count : (place + 1) * count]
    return list(struct.unpack(f"<{count}Q", raw))


class LoadTeller:
    """Writes the log, a line at a time."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def point(self, point: LoadPoint) -> None:
        """An interval is over."""
        self._line({"point": to_plain(point)})

    def note(self, text: str) -> None:
        """Something that one should know."""
        self._line({"note": text})

    def error(self, error: HeadwayError) -> None:
        """The test could not be carried out."""
        self._line({"error": error.to_dict()["error"]})

    def report(self, report: LoadReport) -> None:
        """The end."""
        document = json.dumps(to_document(report), ensure_ascii=False, separators=(",", ":")).encode()
        text = base64.b64encode(gzip.compress(document, mtime=0)).decode()
        pieces = [text[begin : begin + LINE_BYTES] for begin in range(0, len(text), LINE_BYTES)]
        for number, piece in enumerate(pieces, 1):
            self._line({"report": piece, "part": number, "parts": len(pieces)})

    def _line(self, value: dict[str, Any]) -> None:
        self._write(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


class LoadListener:
    """Reads the log. ``progress`` is told of the intervals, ``told`` of what one should know; lines of others, and what
    was heard before, are passed over."""

    def __init__(self, progress: Callable[[LoadPoint], None], told: Callable[[str], None] = lambda _: None) -> None:
        self._progress = progress
        self._told = told
        self._notes: set[str] = set()
        self._pieces: list[str] = []
        self._until_s = 0.0
        self.report: LoadReport | None = None
        self.error: dict[str, Any] | None = None

    @property
    def over(self) -> bool:
        """Whether all was said."""
        return self.report is not None or self.error is not None

    def take(self, line: str) -> bool:
        """One line; whether it was the last. Raises ``ClusterFailed`` when a part of the report is missing."""
        try:
            said = json.loads(line) if line.startswith("{") else {}
        except ValueError:
            return False
        if "point" in said:
            self._pass_on(point_of(said["point"]))
        elif "note" in said:
            if said["note"] not in self._notes:
                self._notes.add(said["note"])
                self._told(said["note"])
        elif "error" in said:
            self.error = said["error"]
        elif "report" in said:
            if said["part"] == 1:
                self._pieces.clear()
            self._pieces.append(said["report"])
            if said["part"] != len(self._pieces):
                raise ClusterFailed("a part of the report is missing in the master's log")
            if said["part"] == said["parts"]:
                self.report = report_of(json.loads(gzip.decompress(base64.b64decode("".join(self._pieces)))))
        return self.over

    def _pass_on(self, point: LoadPoint) -> None:
        if point.end_s > self._until_s:
            self._until_s = point.end_s
            self._progress(point)
