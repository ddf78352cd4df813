"""The query log on its way to disk: the layout of segment files, shared by their writer and their reader.

Standard library only: the model server writes with it. All numbers are little-endian.

A *stream* is the life of one writing process; it writes *segments*, files named ``<stream>-<number>.hwq`` in
``<root>/segments/<model>/``. A segment is a sequence of *blocks*, each written with one ``write``:

    header   magic, kind, count, payload bytes, CRC-32 of all the rest, first sequence number, wall clock and
             monotonic clock when the block was written
    payload  ``count`` rows, one call of ``predict`` with ``count`` requests, or one JSON object

The first block of a segment is a ``HEAD`` object. Records of a block have consecutive sequence numbers. What cannot be
written still takes its sequence numbers; a ``DROPPED`` object tells how many when writing works again.
A ``CLOSED`` object ends a segment that will not grow; a segment without one has a living writer or one that was killed.

Rows hold monotonic instants, not durations, because that costs the server least. Wall time of an instant is
``wall_ns - (mono_ns - instant)`` of its block.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

MAGIC: Final = b"HWQ1"
VERSION: Final = 2
"""Segments of version 1 are those of version 2 without ``CALL`` blocks."""
SUFFIX: Final = ".hwq"

BLOCK: Final = Struct("<4sHHIIQqq")
"""magic, kind, count, payload bytes, crc, first sequence number, wall_ns, mono_ns: 40 bytes.

The CRC (``zlib.crc32``) is of the header with its own four bytes zero, then the payload."""
CRC_OFFSET: Final = 12
MAX_BLOCK_ROWS: Final = 4096

ROW: Final = Struct("<qqqqqIIIHHBBBxHxx36s")
"""received, queued, started, predicted, answered (monotonic ns; 0: did not get there), bytes in, bytes out, rows,
batch (requests in the call), status, flags, route, format, client, request id (zero-padded): 100 bytes.

``route``, ``format`` and ``client`` are places in the lists of the ``HEAD`` and ``NAMES`` objects."""
CALL_FIELDS: Final = (
    "started",  # monotonic ns, of the call
    "predicted",
    "batch",  # requests in the call
    "flags",  # without arms
    "route",
    "format",
    "decode_ns",  # from here on lists, one item for each record
    "queue_ns",  # it arrived at started - queue_ns - decode_ns
    "encode_ns",  # from the answer before it (the first: from predicted) until it was answered
    "bytes_in",
    "bytes_out",
    "rows",
    "status",
    "request_ids",  # byte strings
    "arms",  # empty: all direct
    "clients",  # empty: all without a name
)
"""The payload of a ``CALL`` block is a MessagePack array of these.

The same as rows, for a third of the bytes and of the time; a lone request is cheaper as a row."""
FEEDBACK_FIELDS: Final = (
    "request_id",
    "metric",
    "value",
    "at_ns",  # wall clock, as the caller said, else when it came
)
ID_BYTES: Final = 36
"""Longer request ids are cut in the row and stand whole in a ``LONG_ID`` object right after its block."""


class Kind(IntEnum):
    """Of a block."""

    ROWS = 1
    HEAD = 2
    """``{"format": 1, "model", "version", "replica", "stream", "segment", "pid", "routes": [...], "formats": [...],
    "clients": [...]}``: place 0 of each list is the empty name."""
    NAMES = 3
    """``{"clients": [...]}``: names to append to the list of clients."""
    LONG_ID = 4
    """``{"<seq>": "<request id>"}``."""
    DROPPED = 5
    """``{"records": N, "reason": "..."}``: the N sequence numbers right before this block's first one were dropped."""
    CLOSED = 6
    """``{}``: the segment is complete."""
    CALL = 7
    """Requests of one route that one call of ``predict`` answered: :data:`CALL_FIELDS`."""
    FEEDBACK = 8
    """``{"first": N, "items": [[...], ...]}``: feedback on requests, :data:`FEEDBACK_FIELDS` each; ``first`` counts the
    stream's feedback from 0. It takes no sequence numbers: what is not written is not acknowledged."""


class Flag(IntFlag):
    """Of a row; the arm is in the upper bits."""

    COLD_START = 1
    SHED = 2
    EXPIRED = 4


ARM_SHIFT: Final = 4
ARMS: Final = ("direct", "split", "sticky", "pinned", "shadow", "job")
"""``flags >> ARM_SHIFT`` is a place in this list."""

CLIENT_CLOSED: Final = 499
"""Status of a request whose client had gone, as nginx has it."""

GATEWAY_FIELDS: Final = (
    "pid",  # of the gateway's process
    "line",  # lines it has written, from 1; a gap means lost lines
    "at_ms",  # wall clock at which the request's head was accepted, milliseconds since the epoch
    "total_ms",  # from then to the answer's last byte
    "status",  # as sent to the client; -1: none, the client had gone
    "bytes_in",
    "bytes_out",
    "retries",
    "server",  # replica that was tried last; "<NOSRV>" for none
    "ends",  # the gateway's own code of how it ended
    "request_id",
    "model",
    "version",
    "client",
    "arm",
    "path",
)
"""One line of the gateway's own log, a JSON array of these, for each request that it answered itself or retried.

A line whose answer the gateway made *is* the request's record: a replica may have written one for an answer that
it could not deliver, and the client saw the gateway's. A line about a retry that succeeded says that of the
records with this request id, within its time, only the last one counts."""
