"""The gateway's lines: records of requests that it answered itself, and claims on records of replicas.

A *claim* says that of some replicas' records not all count. A line about an answer of the gateway's own claims every
replica's record of that request: the client saw the gateway's answer. A line about a retry that succeeded claims all
but the last. A claim holds for records with the line's request id and model that came in while the gateway had the
request, give or take a second, and for no more of them than it made attempts: a client may use an id twice.

Of a retry's records the one that counts is the last of the replica that the gateway tried last, so a record can be
judged without those of other replicas at hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headway.adapters.querylog.columns import IDS, Columns
from headway.domain.names import MODEL_NAME
from headway.domain.query_log import Arm, QueryRecord
from headway.domain.query_segments import CLIENT_CLOSED, GATEWAY_FIELDS, ID_BYTES

NO_SERVER: Final = "<NOSRV>"
SLACK_NS: Final = 1_000_000_000
"""How far a replica's clock and the gateway's may disagree about one request."""
TOO_MANY: Final = 429
GATEWAY_TIMEOUT: Final = 504
UNAVAILABLE: Final = 503
MOST_FOUND: Final = 1000
"""Records looked at for one claim."""
_MS: Final = 1_000_000
_ARMS: Final = frozenset(Arm)
_PATH: Final = re.compile(
    r"/models/[^/]+(?:/versions/[^/]+)?"
    r"/(?:(?P<route>predict|invocations|api/v[01]\.[01]/predictions)|(?P<v2>v2/models/[^/]+(?:/versions/[^/]+)?/infer))"
    r"(?:\?.*)?",
    re.DOTALL,
)
_SERVER: Final = re.compile(r"(.+)\.[0-9a-f]{6}(?: waiting)?")
_MULTIPLIERS: Final = np.array(
    [pow(0x9E3779B97F4A7C15, power, 2**64) for power in range(1, ID_BYTES // 4 + 1)], np.uint64
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line, checked."""

    pid: int
    line: int
    at_ns: int
    total_ns: int
    status: int
    """-1: none."""
    bytes_in: int
    bytes_out: int
    retries: int
    server: str
    ends: str
    request_id: str
    model: str
    version: str
    client: str
    arm: str
    path: str


@dataclass(frozen=True, slots=True)
class Claim:
    """See the module's text."""

    model: str
    request_id: str
    from_ns: int
    until_ns: int
    attempts: int
    replica: str | None
    """Whose last record counts; None: no replica's does."""
    shadow: bool = False
    """About a copy, whose id may be that of the request it was made from."""


@dataclass(frozen=True, slots=True, order=True)
class Claimed:
    """A replica's record that a claim is about."""

    ts_ns: int
    stream: str
    seq: int
    replica: str


def parse(text: bytes) -> Line | None:
    """One line without its end; None when it is none."""
    try:
        values = json.loads(text)
        if not isinstance(values, list) or len(values) != len(GATEWAY_FIELDS):
            return None
        of: dict[str, Any] = dict(zip(GATEWAY_FIELDS, values, strict=True))
        return Line(
            pid=int(of["pid"]),
            line=int(of["line"]),
            at_ns=int(of["at_ms"]) * _MS,
            total_ns=max(int(of["total_ms"]), 0) * _MS,
            status=int(of["status"]),
            bytes_in=max(int(of["bytes_in"]), 0),
            bytes_out=max(int(of["bytes_out"]), 0),
            retries=abs(int(of["retries"])),
            **{name: _text(of[name]) for name in GATEWAY_FIELDS[GATEWAY_FIELDS.index("server") :]},
        )
    except (ValueError, TypeError, OverflowError):
        return None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def is_record(line: Line) -> bool:
    """Whether the gateway made the answer, so that the line is the request's record.

    Of requests that were not retried there are no other lines. ``ends`` are HAProxy's letters for who ended it and in
    which phase: in the one of the answer's data (``D``), the last of it (``L``) or none (``-``) a replica had answered.
    """
    return line.retries == 0 or line.ends[1:2] not in ("D", "L", "-")


def record_of(line: Line, model: str, stream: str, seq: int) -> QueryRecord:
    """The record of a line that :func:`is_record`.

    ``stream`` is ``gateway.<token>`` of the file's life and ``seq`` the line's place in it, in bytes: processes of the
    gateway come and go, with their ids and their counts of lines.
    """
    return QueryRecord(
        ts_ns=line.at_ns,
        model=model,
        version=line.version,
        replica="",
        stream=stream,
        seq=seq,
        request_id=line.request_id,
        route=route_of(line.path),
        format="",
        status=_status_of(line),
        rows=0,
        batch=0,
        bytes_in=line.bytes_in,
        bytes_out=line.bytes_out,
        total_ns=line.total_ns,
        queue_ns=None,
        decode_ns=None,
        predict_ns=None,
        encode_ns=None,
        cold_start=False,
        shed=line.status == TOO_MANY,
        expired=line.status == GATEWAY_TIMEOUT,
        client=line.client,
        arm=Arm(line.arm) if line.arm in _ARMS else Arm.SPLIT,
    )


def _status_of(line: Line) -> int:
    """What the client got. HAProxy gives up a request with 400 when its client has left (``C``), and at times closes a
    connection without an answer when the last replica has died."""
    if line.ends.startswith("C"):
        return CLIENT_CLOSED
    return UNAVAILABLE if line.status < 0 else line.status


def route_of(path: str) -> str:
    """Which of the model server's routes a path leads to; empty where it is none: a path is whatever anybody likes."""
    found = _PATH.fullmatch(path)
    if found is None:
        return ""
    return "/v2/models/infer" if found["v2"] else f"/{found['route']}"


def model_of(line: Line, known: Collection[str]) -> str:
    """The model that the line is about; empty where there is none of that name.

    Anybody can send a request for any name. A name counts that is ``known``, or for which the gateway had a route:
    else it would not have answered 429 or 5xx.
    """
    routed = line.status == TOO_MANY or line.status >= 500
    return line.model if line.model in known or (routed and MODEL_NAME.fullmatch(line.model)) else ""


def claims_something(line: Line) -> bool:
    """Whether a replica can have a record of the line's request."""
    return line.retries > 0 or line.server != NO_SERVER


def claim_of(line: Line, model: str) -> Claim:
    """What the line says of replicas' records."""
    return Claim(
        model=model,
        request_id=line.request_id,
        from_ns=line.at_ns - SLACK_NS,
        until_ns=line.at_ns + line.total_ns + SLACK_NS,
        attempts=line.retries + 1,
        replica=None if is_record(line) else replica_of(line.server),
        shadow=line.arm == Arm.SHADOW,
    )


def replica_of(server: str) -> str:
    """The gateway may call a replica ``<replica>.<6 hexadecimal digits>``, and one that a request waited for so too."""
    found = _SERVER.fullmatch(server)
    return found[1] if found else server


def superseded(claim: Claim, found: Iterable[Claimed]) -> list[Claimed]:
    """Those of the records found for ``claim`` that do not count."""
    records = sorted(found)
    if claim.replica is None:
        return records[-claim.attempts :]
    of_last = [record for record in records if record.replica == claim.replica]
    others = [record for record in records if not of_last or record is not of_last[-1]]
    return others[: claim.attempts - 1]


class Claims:
    """Claims on records of one model, and the records found for them. Not for two threads at once."""

    def __init__(self, claims: Iterable[Claim] = ()) -> None:
        self._claims: list[Claim] = []
        self._places: dict[int, list[int]] = {}
        self._found: dict[int, dict[Claimed, tuple[Hashable, int]]] = {}
        self._gone: dict[Hashable, set[int]] | None = None
        for claim in claims:
            self.add(claim)

    def add(self, claim: Claim) -> None:
        """Records are looked for by :meth:`match`."""
        self._places.setdefault(_hash_of(claim.request_id), []).append(len(self._claims))
        self._claims.append(claim)

    def match(self, columns: Columns, source: Hashable, first_row: int = 0) -> None:
        """Look for records of claims among rows of ``source`` from ``first_row`` on."""
        claims = self._claims
        if not claims or not len(columns):
            return
        ts_ns = columns.numbers["ts_ns"]
        earliest, latest = min(claim.from_ns for claim in claims), max(claim.until_ns for claim in claims)
        rows = np.flatnonzero((ts_ns >= earliest) & (ts_ns <= latest))
        hashes = _hashes(columns.ids[rows])
        wanted = np.fromiter({_hash_of(claim.request_id) for claim in claims}, np.uint64)
        hits = np.isin(hashes, wanted)
        for row, code in zip(rows[hits].tolist(), hashes[hits].tolist(), strict=True):
            for place in self._places[code]:
                claim = self._claims[place]
                if claim.from_ns <= ts_ns[row] <= claim.until_ns:
                    self._take(place, columns, row, (source, first_row + row))

    def _take(self, place: int, columns: Columns, row: int, where: tuple[Hashable, int]) -> None:
        claim, found = self._claims[place], self._found.setdefault(place, {})
        arm, stream, replica = (columns.names[name] for name in ("arm", "stream", "replica"))
        whole = columns.long_ids.get(row) or columns.ids[row].decode("utf-8", "replace")
        same = whole == claim.request_id and (arm.text(row) == Arm.SHADOW) == claim.shadow
        if not same or not replica.text(row) or len(found) >= MOST_FOUND:
            return
        numbers = columns.numbers
        claimed = Claimed(int(numbers["ts_ns"][row]), stream.text(row), int(numbers["seq"][row]), replica.text(row))
        found[claimed] = where
        self._gone = None

    def gone(self, source: Hashable) -> Collection[int]:
        """Rows of ``source`` that do not count."""
        if self._gone is None:
            self._gone = {}
            for place, found in self._found.items():
                for claimed in superseded(self._claims[place], found):
                    owner, row = found[claimed]
                    self._gone.setdefault(owner, set()).add(row)
        return self._gone.get(source, ())


def _hash_of(request_id: str) -> int:
    cut = request_id.encode("utf-8", "replace")[:ID_BYTES]
    return int(_hashes(np.array([cut], IDS))[0])


def _hashes(ids: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """A number for each id; equal for equal ones."""
    words = np.ascontiguousarray(ids).view("<u4").reshape(len(ids), ID_BYTES // 4).astype(np.uint64)
    hashes: NDArray[np.uint64] = (words * _MULTIPLIERS).sum(axis=1, dtype=np.uint64)
    return hashes
