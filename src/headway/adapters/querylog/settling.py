"""Takes the gateway's lines out of its log: their records become parts, their claims are carried out on parts.

A claim (see :mod:`.gateway_lines`) may be about records that a replica writes after the line, when the gateway lost
patience first. So a line with a claim is taken once it is *settled*: ``SETTLE_NS`` older than everything that
may still be written; those behind it in the log wait for it. Until then readers carry out its claim on what they read.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from headway.adapters.querylog.columns import from_records
from headway.adapters.querylog.directory import Stored
from headway.adapters.querylog.gateway_lines import (
    Claim,
    Claims,
    claim_of,
    claims_something,
    is_record,
    model_of,
    parse,
    record_of,
)
from headway.adapters.querylog.gateway_mark import LOG_NAME, GatewayMark, advance, current_mark, renewed
from headway.adapters.querylog.gateway_tail import Copies, LineCounts
from headway.adapters.querylog.manifest import Chosen, gateway_source, hour_of
from headway.adapters.querylog.new_parts import add_columns
from headway.adapters.querylog.part_files import TYPES, duck, files_sql
from headway.adapters.querylog.store import PartStore
from headway.domain.errors import StorageFailed
from headway.domain.query_log import Arm, QueryRecord

SETTLE_NS: Final = 600_000_000_000
"""Longer than a replica works on a request that the gateway has given up."""
ORDER_NS: Final = 5_000_000_000
"""Lines of the same moment may stand in either order; those this old stand in front of all that are to come."""
TAKE_BYTES: Final = 16 * 1024 * 1024
"""Taken in one step."""
FREE_BYTES: Final = 64 * 1024 * 1024
"""What the log takes on the disk before what was taken of it is given back."""
_TRIES: Final = 5
_PUNCH_HOLE: Final = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE


def take_lines(gateway_root: Path, store: PartStore, known: Collection[str], horizon_ns: int, now_ns: int) -> int:
    """Take all that is settled at ``horizon_ns``, the earliest time that may still get records; records added.

    ``known`` are the names of models that there are records of.
    """
    records = 0
    while True:
        mark = current_mark(gateway_root)
        if not mark.token:
            return records
        if mark.taking is None:
            end = _settled_end(gateway_root / LOG_NAME, mark.offset, horizon_ns, now_ns)
            if end == mark.offset:
                give_back(gateway_root, mark)
                return records
            begun = replace(mark, taking=end)
            if not advance(gateway_root, mark, begun):
                continue
            mark = begun
        records += _take(gateway_root, store, mark, known, now_ns)


def _settled_end(path: Path, offset: int, horizon_ns: int, now_ns: int) -> int:
    end = offset
    for _, text in _lines(path, offset, offset + TAKE_BYTES):
        line = parse(text)
        if line is not None:
            done_ns = line.at_ns + line.total_ns
            if done_ns + ORDER_NS > now_ns or (claims_something(line) and done_ns + SETTLE_NS > horizon_ns):
                break
        end += len(text)
    return end


def _lines(path: Path, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines between two offsets, and where they begin."""
    with path.open("rb") as file:
        data = os.pread(file.fileno(), end - start, start)
    for text in data.splitlines(keepends=True):
        if text.endswith(b"\n"):
            yield start, text
        start += len(text)


def _take(gateway_root: Path, store: PartStore, mark: GatewayMark, known: Collection[str], now_ns: int) -> int:
    end = mark.offset if mark.taking is None else mark.taking
    records: dict[str, list[QueryRecord]] = {}
    claims: dict[str, list[Claim]] = {}
    counts, copies = LineCounts(mark.counted), Copies(mark.single)
    for place, text in _lines(gateway_root / LOG_NAME, mark.offset, end):
        line = parse(text)
        if line is None or not copies.is_first(text.rstrip(b"\n")):
            continue
        counts.add(line)
        model = model_of(line, known)
        if model and claims_something(line):
            claims.setdefault(model, []).append(claim_of(line, model))
        if is_record(line):
            records.setdefault(model, []).append(record_of(line, model, mark.stream, place))
    for model, of_model in claims.items():
        carry_out(store, model, of_model, now_ns)
    source = gateway_source(mark.token, mark.offset, end)
    for model, rows in records.items():
        add_columns(store, model, source, from_records(rows), None, now_ns)
    advance(gateway_root, mark, replace(mark, offset=end, taking=None, counted=counts.counted, single=copies.single))
    return sum(map(len, records.values()))


# -- claims ------------------------------------------------------------------------------------------


def carry_out(store: PartStore, model: str, claims: Sequence[Claim], now_ns: int) -> int:
    """Take what does not count, by ``claims``, out of the parts; how many records that were.

    Raises ``StorageFailed``.
    """
    first, last = min(claim.from_ns for claim in claims), max(claim.until_ns for claim in claims)
    removed = 0
    for _ in range(_TRIES):
        found, rows = Claims(), {}
        for claim in claims:
            found.add(claim)
        choices = store.choices(model, hour_of(first), hour_of(last))
        for hour, choice in choices.items():
            for chosen in choice.chosen:
                records = _candidates(store, model, chosen, claims)
                rows[hour, chosen.file.name] = records
                found.match(from_records(records), (hour, chosen.file.name))
        beaten = False
        for hour, choice in choices.items():
            gone = {
                chosen.file.name: [rows[key][row] for row in found.gone(key)]
                for chosen in choice.chosen
                if (key := (hour, chosen.file.name)) in rows
            }
            files = [chosen for chosen in choice.chosen if gone[chosen.file.name] or chosen is choice.merged]
            out = [(record.stream, record.seq) for records in gone.values() for record in records]
            if out and store.merge(model, hour, files, choice.next_number, now_ns, out):
                removed += len(out)
            elif out:
                beaten = True
        if not beaten:
            return removed
    raise StorageFailed(f"others keep merging the query log of {model}", hint="it is tried again in the next round")


def _candidates(store: PartStore, model: str, chosen: Chosen[Stored], claims: Sequence[Claim]) -> list[QueryRecord]:
    """Records of replicas with an id that is claimed."""
    first, last = min(claim.from_ns for claim in claims), max(claim.until_ns for claim in claims)
    if chosen.note.last_ns < first or chosen.note.first_ns > last or not chosen.note.rows:
        return []
    columns = ", ".join(f'"{name}"' for name in TYPES)
    with duck(store.place.scratch) as connection:
        wanted = sorted({claim.request_id for claim in claims})
        connection.register("wanted", {"request_id": np.array(wanted, dtype=object)})
        table = files_sql([store.place.local(chosen.file)])
        found = connection.execute(
            f"SELECT {columns} FROM {table} SEMI JOIN wanted USING (request_id)"  # noqa: S608
            " WHERE replica <> '' AND ts_ns BETWEEN ? AND ?",  # those of the gateway are nobody's claim
            [first, last],
        ).fetchall()
    named = (dict(zip(TYPES, row, strict=True)) for row in found)
    return [QueryRecord(model=model, **{**row, "arm": Arm(row["arm"])}) for row in named]


# -- space -------------------------------------------------------------------------------------------


def give_back(gateway_root: Path, mark: GatewayMark) -> None:
    """Free the space of lines that were taken, once the log has become large.

    A hole leaves every offset as it is. Where the file system has no holes the file is cut to nothing, once all of it
    was taken; a line written in that moment is lost and shows as a hole in the gateway's count of its lines.
    """
    path = gateway_root / LOG_NAME
    with path.open("r+b") as file:
        status = os.fstat(file.fileno())
        if status.st_ino != mark.inode or status.st_blocks * 512 <= FREE_BYTES or not mark.offset:
            return
        try:
            punch_hole(file.fileno(), mark.offset)
            return
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.ENOSYS}:
                raise
        if os.fstat(file.fileno()).st_size == mark.offset and advance(gateway_root, mark, renewed(mark)):
            os.ftruncate(file.fileno(), 0)


def punch_hole(descriptor: int, size: int) -> None:
    """Give the first ``size`` bytes of a file back to the file system; they read as zeros then. Raises ``OSError``."""
    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if call(descriptor, _PUNCH_HOLE, 0, size) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
