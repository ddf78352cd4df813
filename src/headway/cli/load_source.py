"""What a load test sends, from what the command's options say: its shape, and the requests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from headway.cli.output import note
from headway.domain import load_shapes, promises
from headway.domain.errors import HeadwayError, InvalidInput, NotFound
from headway.domain.load_rows import MOST_DISTINCT, bodies, rows_of_file, rows_of_sample, rows_of_signature
from headway.domain.load_shapes import Arrivals, LoadShape, Loop, Stage
from headway.domain.load_stage_files import load_range, parse_stages
from headway.domain.promises import Promise
from headway.domain.quantities import seconds
from headway.domain.spec_document import read_as
from headway.ports.load_generator import LoadRequest

if TYPE_CHECKING:
    from headway.client import Client

MOST_FILE: Final = 256 * 1024 * 1024
MOST_STAGES_FILE: Final = 1 << 20
MOST_RECORDS: Final = 1_000_000
UNASKED: Final = frozenset({"shadow", "job"})
"""Arms of requests that no caller waited for at the gateway."""


class Asked(Protocol):
    """Who tells what a model takes: Headway, or the model itself."""

    def sample(self, name: str, *, version: str | None = None) -> bytes:
        """Its example request. Raises ``NotFound``."""
        ...

    def signature(self, name: str) -> Mapping[str, Any]:
        """What it says of its inputs."""
        ...

    def predict(self, name: str, body: bytes, *, version: str | None = None) -> bytes:
        """Its answer."""
        ...


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was recorded of some time."""

    shape: LoadShape
    sizes: tuple[int, ...]
    """Rows of each request."""


def users_shape(text: str, duration: str, spawn_rate: float | None, think_time: str, seed: int) -> LoadShape:
    """``1:200`` at 5 more a second: a ramp, then as many as that for the rest of the time."""
    begin, end = load_range(text, where="--users")
    if not (begin.is_integer() and end.is_integer()):
        raise InvalidInput("users are whole", where="--users")
    if end <= 0 or (begin <= 0 and end <= 0):
        raise InvalidInput("0 users are no load", where="--users", hint="give a number above 0")
    length_s, think_s = length(duration, "--duration"), length(think_time, "--think-time")
    stages: tuple[Stage, ...] = (Stage(duration_s=length_s, begin=begin, end=end),)
    if spawn_rate is not None:
        if not spawn_rate > 0:
            raise InvalidInput("a spawn rate is above 0", where="--spawn-rate")
        begin = min(begin, max(1.0, spawn_rate)) if begin == end else begin
        ramp_s = abs(end - begin) / spawn_rate
        if ramp_s >= length_s:
            reached = begin + (end - begin) * length_s / ramp_s
            stages = (Stage(duration_s=length_s, begin=begin, end=round(reached)),)
        elif ramp_s > 0:
            ramp = Stage(duration_s=ramp_s, begin=begin, end=end, name="ramp")
            stages = (ramp, Stage(duration_s=length_s - ramp_s, begin=end, end=end, name="hold"))
    shape = LoadShape(loop=Loop.CLOSED, stages=stages, think_time_s=think_s, seed=seed)
    return shape.checked("--users")


def rate_shape(text: str, duration: str, arrivals: Arrivals, seed: int) -> LoadShape:
    """``100:2000`` arrivals a second."""
    begin, end = load_range(text, where="--rate")
    stage = Stage(duration_s=length(duration, "--duration"), begin=begin, end=end)
    return LoadShape(loop=Loop.OPEN, stages=(stage,), arrivals=arrivals, seed=seed).checked("--rate")


def stages_shape(path: Path, seed: int | None) -> LoadShape:
    """The shape that a file describes."""
    text = read(path, MOST_STAGES_FILE, "--stages")
    try:
        content = text.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"it is not UTF-8 text: byte {error.start + 1}", where=str(path)) from None
    return read_as(lambda data: parse_stages(data, seed=seed), content, str(path))


def replayed(client: Client, name: str, since: str, until: str | None, speed: float) -> Replayed:
    """Arrivals and sizes as the query log has them, ``speed`` times as fast. Raises ``InvalidInput`` without any."""
    if not 0.001 <= speed <= 1000:
        raise InvalidInput(f"{speed:g} times as fast", where="--speed", hint="0.001 to 1000")
    found = (one for one in client.records(name, since=since, until=until) if one.arm not in UNASKED)
    records = sorted(islice(found, MOST_RECORDS + 1), key=lambda one: one.ts_ns)
    if not records:
        raise InvalidInput(
            f"the query log has no requests to {name} in this time",
            where="--since",
            hint=f"headway log {name} shows them",
        )
    if len(records) > MOST_RECORDS:
        raise InvalidInput(f"more than {MOST_RECORDS:,} requests", where="--since", hint="replay a shorter time")
    first_ns = records[0].ts_ns
    offsets_s = tuple((one.ts_ns - first_ns) / 1e9 / speed for one in records)
    shape = load_shapes.recorded(offsets_s, offsets_s[-1] + 0.001)
    return Replayed(shape, tuple(max(1, one.rows) for one in records))


def requests(
    client: Asked, name: str, version: str | None, data: Path | None, rows: int, sizes: Sequence[int] | None
) -> list[LoadRequest]:
    """Requests to send in turn: of a data file, the model's sample, or rows made of what it says of its inputs.

    ``rows`` in each, unless ``sizes`` says how many. Raises ``InvalidInput`` when there is nothing to make them of.
    """
    if data is not None:
        return file_requests(data, rows, sizes)
    found = None
    try:
        sample = client.sample(name, version=version)
    except NotFound as error:
        if error.code != NotFound.code:
            raise
    else:
        found = rows_of_sample(sample)
        if found is None:
            return _as_it_is(sample, name, rows, sizes)
    if found is None:
        found = rows_of_signature(client.signature(name))
    if found is None:
        raise InvalidInput(
            f"{name} has no sample and does not say what it takes",
            where="--data",
            hint="give rows: --data FILE, or deploy it with a sample.json",
        )
    return made_of(found, rows, sizes)


def _as_it_is(sample: bytes, name: str, rows: int, sizes: Sequence[int] | None) -> list[LoadRequest]:
    """A sample that is no list of rows. Raises ``InvalidInput`` where requests are to have more than it has."""
    if sizes is None and rows != 1:
        raise InvalidInput(
            f"the sample of {name} is no list of rows and is sent as it is", where="--rows", hint="leave it out"
        )
    if sizes is not None:
        note(f"the sample of {name} is no list of rows: each request is that sample, whatever was recorded")
    return [LoadRequest(sample)]


def fitting(
    client: Asked,
    name: str,
    version: str | None,
    made: list[LoadRequest],
    rows: Callable[[], Sequence[Any]] | None,
    told: Callable[[str], None] = note,
) -> list[LoadRequest]:
    """The requests, the first of which was tried. Where they are refused, ``rows`` one by one, if these are records."""
    hint = "give rows that fit: --data FILE" if rows is None else "the rows have to be what the model takes"
    whole = None
    try:
        tried(client, name, version, made[0], hint)
    except InvalidInput:
        if rows is None or (whole := whole_records(rows())) is None:
            raise
        try:
            tried(client, name, version, whole[0], hint)
        except HeadwayError:
            whole = None
        if whole is None:
            raise
        told(f"each record is a request of its own: {name} takes no list of rows")
    return made if whole is None else whole


def whole_records(found: Sequence[Any]) -> list[LoadRequest] | None:
    """Each record as a request of its own, for models that take an object; None where there are others."""
    if not all(isinstance(row, dict) for row in found):
        return None
    return [LoadRequest(json.dumps(row, separators=(",", ":")).encode()) for row in found[:MOST_DISTINCT]]


def file_requests(data: Path, rows: int, sizes: Sequence[int] | None = None) -> list[LoadRequest]:
    """Requests to send in turn, of a data file."""
    return made_of(file_rows(data), rows, sizes)


def file_rows(data: Path) -> list[Any]:
    """The rows of a data file."""
    return rows_of_file(read(data, MOST_FILE, "--data"), str(data))


def made_of(found: Sequence[Any], rows: int, sizes: Sequence[int] | None) -> list[LoadRequest]:
    """Requests to send in turn, of rows."""
    made = sizes if sizes is not None else (rows,) * min(len(found), MOST_DISTINCT)
    return [LoadRequest(body) for body in bodies(found, made)]


def tried(
    client: Asked,
    name: str,
    version: str | None,
    request: LoadRequest,
    hint: str = "give rows that fit: --data FILE",
) -> None:
    """One request before all others: a body that is refused is told at once, not 10,000 times.

    Raises the model's own error, with a hint.
    """
    try:
        client.predict(name, request.body, version=version)
    except InvalidInput as error:
        raise InvalidInput(
            f"the model refuses the first request: {error.message}",
            where=error.where,
            hint=hint,
        ) from None
    except HeadwayError as error:
        error.hint = error.hint or "this was the first request, before the load began"
        raise


def length(text: str, where: str) -> float:
    """Seconds of ``3m``. Raises ``InvalidInput``."""
    try:
        return seconds(text)
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise InvalidInput(message, where=where, hint=hint or None) from None


def read(path: Path, most: int, where: str) -> bytes:
    """A file's bytes. Raises ``InvalidInput``."""
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}", where=where) from None
    if len(content) > most:
        raise InvalidInput(f"{path} is larger than {most >> 20} MiB", where=where)
    return content


def promised(sla: Sequence[str] | None, *, stop: bool) -> tuple[Promise, ...]:
    """The promises of ``--sla``. ``InvalidInput`` for what is none, and for ``--stop`` without any."""
    found = promises.parse_all(sla or [])
    if stop and not found:
        raise InvalidInput("--stop needs a promise to be broken", where="--stop", hint="add --sla 'p95<1s'")
    return found


class Chosen:
    """Which of the loads it is."""

    def __init__(self, users: str | None, rate: str | None, stages: Path | None, replay: bool | Path | None) -> None:
        given = {"--users": users, "--rate": rate, "--stages": stages, "--replay": replay or None}
        named = [flag for flag, value in given.items() if value is not None]
        if len(named) > 1:
            raise InvalidInput(f"{' and '.join(named)} exclude each other", where=named[1])
        if not named:
            hint = "--users 1:50, --rate 100, --stages FILE or --replay"
            raise InvalidInput("what load?", where="--users", hint=hint)
        self.load = named[0].removeprefix("--")
        """``users``, ``rate``, ``stages`` or ``replay``."""
        self._users, self._rate, self._stages = users, rate, stages

    def shape(
        self, duration: str, spawn_rate: float | None, think_time: str, arrivals: Arrivals, seed: int | None
    ) -> LoadShape | None:
        """Its shape; None of a replay, which a query log has."""
        if self._users is not None:
            return users_shape(self._users, duration, spawn_rate, think_time, 1 if seed is None else seed)
        if self._rate is not None:
            if arrivals is Arrivals.RECORDED:
                raise InvalidInput("recorded arrivals are those of --replay", where="--arrivals")
            return rate_shape(self._rate, duration, arrivals, 1 if seed is None else seed)
        return None if self._stages is None else stages_shape(self._stages, seed)
