"""What the parts of an hour hold together. Pure.

A *source* is what parts are made from: a segment (``<stream>-<number>``), or a range of the gateway's lines
(``gateway.<token>-<from>-<to>``, offsets in its file). Files of an hour are named for that:

    part-<source>.parquet      the source's records of this hour
    merged-<number>.parquet    several sources; the highest number counts, and holds what lower ones held

Both are complete whenever they can be seen, and neither changes what an hour holds by being there twice: a part
whose source a merged file holds is ignored. So putting one file in place is the only step that merging has, a
crash before it changes nothing, one after it leaves files that nobody counts. Two that merge at once want the same
number, and the file's name goes to one of them only.

A source is *live* while its segment is there, or its lines are beyond the gateway's mark: whoever reads those
takes nothing of it from parts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, Protocol, TypeVar

from headway.domain.query_segments import SUFFIX

HOUR_NS: Final = 3_600_000_000_000
FORMAT: Final = 1
NO_CRC: Final = "00000000"
GATEWAY: Final = "gateway."
NO_MODEL: Final = ""
"""Has the gateway's records of requests that were about no model."""

_PART: Final = re.compile(r"part-(.+)\.parquet")
_MERGED: Final = re.compile(r"merged-([0-9]{6,})\.parquet")
_HOUR: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What is known of a whole source, besides its records. Stands in the part of its first hour."""

    stream: str
    number: int = 0
    """Of the segment within its stream."""
    start_seq: int = 0
    """First sequence number that it accounts for."""
    next_seq: int = 0
    """The one after the last; 0: it accounts for none."""
    dropped: int = 0
    torn: int = 0
    missing: int = 0
    clock_steps: int = 0
    first_offset_ns: int | None = None
    """Wall clock minus monotonic clock, of its first block of rows."""
    last_offset_ns: int | None = None
    """Of its last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A source as far as it is in one file."""

    source: str
    rows: int
    spans: tuple[tuple[str, int, int], ...]
    """``(stream, lowest, highest)`` sequence numbers of its records here; no other source has one in between."""
    account: Account | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a file says of itself, in its footer."""

    rows: int
    first_ns: int
    last_ns: int
    """Of the records; 0 without any."""
    made_ns: int
    """Wall clock."""
    holds: tuple[Holding, ...]

    @property
    def sources(self) -> frozenset[str]:
        return frozenset(hold.source for hold in self.holds)

    def text(self, crc: str = NO_CRC) -> str:
        """As JSON; begins with the checksum."""
        holds = {
            hold.source: [
                hold.rows,
                [list(span) for span in hold.spans],
                None if hold.account is None else [getattr(hold.account, name) for name in Account.__slots__],
            ]
            for hold in self.holds
        }
        value = {
            "crc": crc,
            "format": FORMAT,
            "rows": self.rows,
            "first_ns": self.first_ns,
            "last_ns": self.last_ns,
            "made_ns": self.made_ns,
            "holds": holds,
        }
        return json.dumps(value, separators=(",", ":"))

    @classmethod
    def of(cls, value: Any) -> Note:
        """From :meth:`text`, parsed. Raises ``ValueError``, ``KeyError``, ``TypeError`` or ``AttributeError``."""
        if value["format"] != FORMAT:
            raise ValueError(value["format"])
        holds = []
        for source, (rows, spans, account) in value["holds"].items():
            known = None if account is None else Account(**dict(zip(Account.__slots__, account, strict=True)))
            placed = tuple((str(stream), int(low), int(high)) for stream, low, high in spans)
            holds.append(Holding(source=source, rows=int(rows), spans=placed, account=known))
        numbers = {name: int(value[name]) for name in ("rows", "first_ns", "last_ns", "made_ns")}
        return cls(**numbers, holds=tuple(holds))


def merge_holds(notes: Iterable[Note]) -> tuple[Holding, ...]:
    """What a file made of all these holds. Sources are in one of them each."""
    return tuple(sorted((hold for note in notes for hold in note.holds), key=lambda hold: hold.source))


# -- names -----------------------------------------------------------------------------------------


def part_name(source: str) -> str:
    return f"part-{source}.parquet"


def merged_name(number: int) -> str:
    return f"merged-{number:06d}.parquet"


def part_source(name: str) -> str | None:
    """The source that a file of this name is made from; None: it is no part."""
    found = _PART.fullmatch(name)
    return found[1] if found else None


def merged_number(name: str) -> int | None:
    """None: it is no merged file."""
    found = _MERGED.fullmatch(name)
    return int(found[1]) if found else None


def segment_source(file_name: str) -> str:
    """``<stream>-<number>.hwq`` -> ``<stream>-<number>``."""
    return file_name.removesuffix(SUFFIX)


def gateway_source(token: str, start: int, end: int) -> str:
    return f"{GATEWAY}{token}-{start}-{end}"


def hour_of(ts_ns: int) -> int:
    """Number of the UTC hour since the epoch."""
    return ts_ns // HOUR_NS


def hour_name(hour: int) -> str:
    """``2026-01-31T23``."""
    return datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%dT%H").rjust(13, "0")


def parse_hour(text: str) -> int | None:
    """None: it is no hour's name."""
    if not _HOUR.fullmatch(text):
        return None
    try:
        return int(datetime.fromisoformat(f"{text}:00:00+00:00").timestamp()) // 3600
    except ValueError:
        return None


def is_live(source: str, live: Collection[str]) -> bool:
    """Whether ``live`` has the source: by name, or as lines beyond a gateway's mark (``gateway.<token>@<offset>``)."""
    if source in live or source + SUFFIX in live:
        return True
    if not source.startswith(GATEWAY):
        return False
    stream, _, rest = source.rpartition("-")[0].rpartition("-")
    for name in live:
        mark, at, offset = name.rpartition("@")
        if at and (mark in (stream, GATEWAY)) and int(rest) >= int(offset):
            return True
    return False


# -- which files count -----------------------------------------------------------------------------


class Named(Protocol):
    """A file of an hour."""

    @property
    def name(self) -> str: ...


F = TypeVar("F", bound=Named)


@dataclass(frozen=True, slots=True)
class Chosen(Generic[F]):
    """A file whose records count, but for those of ``hidden``."""

    file: F
    note: Note
    hidden: tuple[Holding, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice(Generic[F]):
    """The files of one hour, sorted out."""

    chosen: tuple[Chosen[F], ...]
    replaced: tuple[F, ...]
    """Held by a chosen file."""
    damaged: tuple[F, ...]
    """Cannot be read; nothing of them counts."""
    merged: Chosen[F] | None
    """The chosen merged file."""
    next_number: int
    """Of the next merged file."""


def choose(files: Sequence[F], notes: Mapping[str, Note | None], live: Collection[str] = frozenset()) -> Choice[F]:
    """Which of an hour's files together hold each record once, and none of a live source.

    ``notes`` are by name; None where the file is damaged.
    """
    numbered = sorted(((merged_number(file.name), file) for file in files), key=lambda pair: pair[0] or 0, reverse=True)
    merged: Chosen[F] | None = None
    replaced: list[F] = []
    damaged: list[F] = []
    for number, file in numbered:
        if number is None:
            continue
        note = notes[file.name]
        if note is None:
            damaged.append(file)
        elif merged is None:
            merged = Chosen(file, note, tuple(hold for hold in note.holds if is_live(hold.source, live)))
        else:
            replaced.append(file)
    held = merged.note.sources if merged else frozenset()
    chosen = [merged] if merged else []
    for file in files:
        source = part_source(file.name)
        if source is None:
            continue
        note = notes[file.name]
        if source in held:
            replaced.append(file)
        elif is_live(source, live):
            continue
        elif note is None:
            damaged.append(file)
        else:
            chosen.append(Chosen(file, note))
    highest = max((number or 0 for number, _ in numbered), default=0)
    return Choice(tuple(chosen), tuple(replaced), tuple(damaged), merged, highest + 1)
