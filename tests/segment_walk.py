"""Reads segments the slow and obvious way, to check those who write them and those who read them fast."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from headway.domain.query_segments import ARM_SHIFT, ARMS, BLOCK, CALL_FIELDS, CRC_OFFSET, MAGIC, ROW, Flag, Kind


@dataclass
class Block:
    kind: Kind
    first_seq: int
    wall_ns: int
    mono_ns: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    value: Any = None


def blocks(path: Path) -> list[Block]:
    """Every block; fails on the first byte that does not belong to one."""
    data, found, at = path.read_bytes(), [], 0
    while at < len(data):
        magic, kind, count, size, crc, first, wall_ns, mono_ns = BLOCK.unpack_from(data, at)
        assert magic == MAGIC
        head = data[at : at + CRC_OFFSET] + bytes(4) + data[at + CRC_OFFSET + 4 : at + BLOCK.size]
        payload = data[at + BLOCK.size : at + BLOCK.size + size]
        assert len(payload) == size
        assert crc32(payload, crc32(head)) == crc
        block = Block(Kind(kind), first, wall_ns, mono_ns)
        if block.kind is Kind.ROWS:
            assert size == count * ROW.size
            block.rows = [_row(values, first + place) for place, values in enumerate(ROW.iter_unpack(payload))]
        elif block.kind is Kind.CALL:
            block.rows = _call(dict(zip(CALL_FIELDS, msgspec.msgpack.decode(payload), strict=True)), first)
            assert len(block.rows) == count
        else:
            block.value = json.loads(payload)
        found.append(block)
        at += BLOCK.size + size
    return found


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of all segments in ``folder``, names filled in, ordered by stream and sequence number."""
    found: list[dict[str, Any]] = []
    for path in folder.glob("*.hwq"):
        head, *rest = blocks(path)
        assert head.kind is Kind.HEAD
        clients = list(head.value["clients"])
        mine: dict[int, dict[str, Any]] = {}
        for block in rest:
            if block.kind is Kind.NAMES:
                clients += block.value["clients"]
            elif block.kind is Kind.LONG_ID:
                for seq, request_id in block.value.items():
                    mine[int(seq)]["request_id"] = request_id
            for row in block.rows:
                row["route"] = head.value["routes"][row["route"]]
                row["format"] = head.value["formats"][row["format"]]
                row["client"] = clients[row["client"]]
                row["stream"] = head.value["stream"]
                row["ts_ns"] = block.wall_ns - (block.mono_ns - row["received"])
                mine[row["seq"]] = row
        found += mine.values()
    return sorted(found, key=lambda row: (row["stream"], row["seq"]))


def _call(call: dict[str, Any], first: int) -> list[dict[str, Any]]:
    found, answered = [], call["predicted"]
    for place, request_id in enumerate(call["request_ids"]):
        answered += call["encode_ns"][place]
        queued = call["started"] - call["queue_ns"][place]
        times = (queued - call["decode_ns"][place], queued, call["started"], call["predicted"], answered)
        arm = call["arms"][place] if call["arms"] else 0
        client = call["clients"][place] if call["clients"] else 0
        sizes = (call["bytes_in"][place], call["bytes_out"][place], call["rows"][place])
        rest = (call["batch"], call["status"][place], call["flags"] | arm << ARM_SHIFT, call["route"], call["format"])
        found.append(_row((*times, *sizes, *rest, client, request_id), first + place))
    return found


def _row(values: tuple[Any, ...], seq: int) -> dict[str, Any]:
    names = (
        "received", "queued", "started", "predicted", "answered", "bytes_in", "bytes_out",
        "rows", "batch", "status", "flags", "route", "format", "client", "request_id",
    )  # fmt: skip
    row = dict(zip(names, values, strict=True))
    row["request_id"] = row["request_id"].rstrip(b"\0").decode()
    row["arm"] = ARMS[row["flags"] >> ARM_SHIFT]
    row["cold_start"] = bool(row["flags"] & Flag.COLD_START)
    row["shed"] = bool(row["flags"] & Flag.SHED)
    row["expired"] = bool(row["flags"] & Flag.EXPIRED)
    return row | {"seq": seq}
