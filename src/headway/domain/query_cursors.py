"""How far a reader of the query log has got. Pure.

Records are ordered by arrival but appear when they are answered: one that took a minute appears behind others of the
same minute that a reader has seen long ago. So a place in the order of arrival is enough to turn pages, but not to
follow what comes. Within one stream, however, records appear in the order of their sequence numbers: the last number
seen of each stream (its *mark*) tells exactly what is new. Streams that wrote nothing lately need no mark, because
nothing of theirs that ended before ``asof`` can still appear.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from headway.domain.errors import InvalidInput
from headway.domain.query_log import QueryRecord

MAX_MARKS: Final = 200
_INT64: Final = 2**63 - 1
_MAX_TEXT: Final = 32 * 1024
_PLACE: Final = re.compile(r"(?P<ts>\d{1,19})\.(?P<seq>\d{1,19})\.(?P<stream>[!-}]{1,200})", re.ASCII)
_ASOF: Final = re.compile(r"\d{1,19}", re.ASCII)
_MARK: Final = re.compile(r"(?P<stream>[!-}]{1,200}):(?P<seq>\d{1,19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last record read, and what a follower needs besides.

    As text: ``<ts_ns>.<seq>.<stream>``, then ``~<asof_ns>`` and ``~<stream>:<seq>`` for each mark.
    """

    ts_ns: int
    stream: str
    seq: int
    asof_ns: int | None = None
    """Every record that had appeared by then is read, but for those that ``marks`` tell of; None: not known."""
    marks: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, record: QueryRecord, asof_ns: int | None = None, marks: Mapping[str, int] | None = None) -> Cursor:
        """At ``record``. The last :data:`MAX_MARKS` marks are kept."""
        kept = dict(list((marks or {}).items())[-MAX_MARKS:])
        return cls(record.ts_ns, record.stream, record.seq, asof_ns, kept)

    @property
    def place(self) -> tuple[int, str, int]:
        """In the order of records."""
        return self.ts_ns, self.stream, self.seq

    def __str__(self) -> str:
        parts = [f"{self.ts_ns}.{self.seq}.{self.stream}"]
        if self.asof_ns is not None:
            parts += [str(self.asof_ns), *(f"{stream}:{seq}" for stream, seq in self.marks.items())]
        return "~".join(parts)


def parse(text: str, *, where: str) -> Cursor:
    """The cursor that ``text`` was made of. Raises ``InvalidInput``."""
    place, *rest = text.split("~") if len(text) <= _MAX_TEXT else [""]
    found = _PLACE.fullmatch(place)
    asof = _ASOF.fullmatch(rest[0]) if rest else None
    marks = [_MARK.fullmatch(mark) for mark in rest[1 : MAX_MARKS + 2]]
    numbers = [
        found and found["ts"],
        found and found["seq"],
        asof and asof[0],
        *(mark and mark["seq"] for mark in marks),
    ]
    broken = found is None or (rest and asof is None) or len(marks) > MAX_MARKS or None in marks
    if found is None or broken or any(int(number) > _INT64 for number in numbers if number is not None):
        raise InvalidInput(
            f"{text[:60]!r} is not a cursor", where=where, hint="give one that an earlier answer told, unchanged"
        )
    return Cursor(
        int(found["ts"]),
        found["stream"],
        int(found["seq"]),
        int(asof[0]) if asof else None,
        {mark["stream"]: int(mark["seq"]) for mark in marks if mark is not None},
    )
