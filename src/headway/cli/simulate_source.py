"""What a simulation is made from: arrivals of the query log or of a file, the model's replicas, policies of files."""

from __future__ import annotations

import csv
import gzip
import io
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from headway.cli.load_source import length, read
from headway.cli.scaling_edit import Flags, edited
from headway.control.simulation import Candidate
from headway.domain.errors import InvalidInput
from headway.domain.scaling_document import read_scaling
from headway.planning.fleet import OK

if TYPE_CHECKING:
    from headway.api.schemas_query_log import RecordView
    from headway.client import Client

MOST_RECORDS: Final = 1_000_000
MOST_REQUESTS: Final = 20_000_000
MOST_LAW: Final = 20_000
MOST_FILE: Final = 256 * 1024 * 1024
MOST_POLICY: Final = 1 << 20
OTHERS: Final = frozenset({"shadow", "job"})
"""Requests that no replica answers to a caller."""
COLUMNS: Final = "two columns: when a second, a minute, … begins, and how many requests came in it"


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """When requests came: seconds since the epoch, rising."""

    at: np.ndarray
    begin_at: float
    until: float


@dataclass(frozen=True, slots=True)
class Law:
    """How long requests took, as far as that is known; equally likely pairs."""

    work_s: tuple[float, ...]
    rest_s: tuple[float, ...]
    batched: bool
    """Some were predicted together with others."""


def records(client: Client, name: str, since: str, until: str | None, most: int) -> list[RecordView]:
    """The query log's; raises ``InvalidInput`` for more than ``most``."""
    found = (one for one in client.records(name, since=since, until=until) if one.arm not in OTHERS)
    taken = list(islice(found, most + 1))
    if len(taken) > most:
        raise InvalidInput(f"more than {most:,} requests", where="--since", hint="replay a shorter time")
    return taken


def of_log(found: Sequence[RecordView], name: str, times: float, seed: int) -> Arrivals:
    """Arrivals as recorded. Raises ``InvalidInput`` without any."""
    if not found:
        raise InvalidInput(
            f"the query log has no requests to {name} in this time",
            where="--since",
            hint=f"headway log {name} shows them; --traffic FILE replays others",
        )
    at = np.sort(np.array([one.ts_ns for one in found], dtype=np.float64) / 1e9)
    if times != 1:
        rng = np.random.default_rng((seed, 6))
        copies = int(times) + (rng.random(len(at)) < times % 1)
        at = np.repeat(at, copies)
        at = np.sort(at + rng.uniform(-0.5, 0.5, len(at)))
    return _checked(at, float(np.floor(at[0])) if len(at) else 0.0, float(np.ceil(at[-1] + 1e-6)) if len(at) else 0.0)


def law_of(found: Sequence[RecordView]) -> Law | None:
    """From what was predicted: a request that shared its call of ``predict`` held the server for its share of it."""
    step = max(1, len(found) // MOST_LAW)
    served = [one for one in found[::step] if one.status == OK and one.predict_ns is not None and one.batch > 0]
    if not served:
        return None
    work = [(one.predict_ns or 0) / one.batch / 1e9 for one in served]
    rest = [
        max(0.0, (one.total_ns - (one.queue_ns or 0)) / 1e9 - work_s) for one, work_s in zip(served, work, strict=True)
    ]
    return Law(tuple(max(w, 1e-6) for w in work), tuple(rest), any(one.batch > 1 for one in served))


def of_file(path: Path, since: str | None, until: str | None, times: float, seed: int) -> Arrivals:
    """Arrivals of a CSV with counts per period, spread evenly at random within each; gzip by its name."""
    where = "--traffic"
    content = read(path, MOST_FILE, where)
    try:
        if path.suffix == ".gz":
            with gzip.open(io.BytesIO(content)) as packed:
                content = packed.read(MOST_FILE + 1)
        text = content.decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}: {error}", where=where) from None
    begins, counts = _columns(text, str(path))
    period_s = float(np.diff(begins).min()) if len(begins) > 1 else 60.0
    if period_s <= 0:
        raise InvalidInput("its times do not rise", where=str(path), hint=COLUMNS)
    since_at = begins[0] if since is None else _instant(since, "--since")
    until_at = begins[-1] + period_s if until is None else _instant(until, "--until")
    inside = (begins >= since_at) & (begins < until_at)
    rng = np.random.default_rng((seed, 6))
    wished = counts[inside] * times
    whole = np.floor(wished).astype(np.int64)
    whole += rng.random(len(whole)) < wished - whole
    if whole.sum() > MOST_REQUESTS:
        raise InvalidInput(f"{whole.sum():,} requests", where=where, hint=f"{MOST_REQUESTS:,} at most: --times 0.1")
    at = np.repeat(begins[inside], whole)
    return _checked(np.sort(at + rng.uniform(0, period_s, len(at))), float(since_at), float(until_at))


def _checked(at: np.ndarray, begin_at: float, until: float) -> Arrivals:
    if not len(at):
        raise InvalidInput("nothing arrives in this time", where="--since")
    if len(at) > MOST_REQUESTS:
        raise InvalidInput(f"{len(at):,} requests", where="--times", hint=f"{MOST_REQUESTS:,} at most")
    return Arrivals(at, min(begin_at, float(at[0])), max(until, float(at[-1])))


def _columns(text: str, source: str) -> tuple[np.ndarray, np.ndarray]:
    begins: list[float] = []
    counts: list[float] = []
    for number, row in enumerate(csv.reader(io.StringIO(text)), 1):
        if not row or (number == 1 and len(row) == 2 and not _number(row[1])):
            continue
        if len(row) != 2 or not _number(row[1]) or float(row[1]) < 0:
            told = f"{','.join(row)[:60]!r} is not a period and a count"
            raise InvalidInput(told, where=f"{source}:{number}", hint=COLUMNS)
        begins.append(float(row[0]) if _number(row[0]) else _instant(row[0], f"{source}:{number}"))
        counts.append(float(row[1]))
    if not begins:
        raise InvalidInput("it is empty", where=source, hint=COLUMNS)
    if (np.diff(begins) <= 0).any():
        raise InvalidInput("its times do not rise", where=source, hint=COLUMNS)
    return np.array(begins), np.array(counts)


def _number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _instant(text: str, where: str) -> float:
    """Of a file, and within it: a time without a zone is UTC."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInput(f"{text[:40]!r} is not a time", where=where, hint="write 1998-06-10T21:30, UTC") from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def measured_start_s(client: Client, name: str, version: str) -> float | None:
    """Median time from a replica's start until it was ready, as the events have it; None: none was seen."""
    started: dict[str, float] = {}
    took: list[float] = []
    for event in client.events(model=name):
        if event.version != version or event.replica is None:
            continue
        if event.type == "replica_started.v1":
            started[event.replica] = event.at
        elif event.type == "replica_ready.v1" and event.replica in started:
            took.append(event.at - started.pop(event.replica))
    return statistics.median(took) if took else None


def candidates(client: Client, name: str, files: Sequence[Path], changed: Flags) -> Iterator[Candidate]:
    """The policy in force, or the fixed number of replicas; with what ``changed`` says, if anything; the files'."""
    view = client.scaling(name)
    yield Candidate("now", view.scaling or {"minReplicas": view.replicas, "maxReplicas": None, "triggers": []})
    if changed.any():
        yield Candidate("changed", edited(name, view.scaling, changed))
    taken = {"now", "changed"}
    for file in files:
        try:
            text = read(file, MOST_POLICY, "--policy").decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"it is not UTF-8 text: byte {error.start + 1}", where=str(file)) from None
        found = read_scaling(text, str(file))
        if found.model is not None and found.model != name:
            raise InvalidInput(f"{file} is the document of {found.model}, not of {name}", where="--policy")
        label = file.stem if file.stem not in taken else str(file)
        taken.add(label)
        yield Candidate(label, found.scaling.model_dump(mode="json", by_alias=True), _queue_of(text))


def _queue_of(text: str) -> int | None:
    """``spec.server.maxQueue`` where the file is a whole document that says it."""
    import yaml

    document: Any = yaml.safe_load(text)
    spec = document.get("spec") if isinstance(document, dict) else None
    server = spec.get("server") if isinstance(spec, dict) else None
    bound = server.get("maxQueue") if isinstance(server, dict) else None
    return bound if isinstance(bound, int) else None


def scaled(law: Law, mean_s: float) -> Law:
    """The same law with another mean."""
    factor = mean_s / statistics.fmean(law.work_s)
    return Law(tuple(work * factor for work in law.work_s), law.rest_s, law.batched)


__all__ = ["Arrivals", "Law", "candidates", "law_of", "length", "measured_start_s", "of_file", "of_log", "records"]
