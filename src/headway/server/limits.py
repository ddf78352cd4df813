"""Limits of the HTTP layer, in bytes, counts and ticks (one a second). The body limit is an option of the spec."""

from __future__ import annotations

from typing import Final

MAX_CONNECTIONS: Final = 8192
MAX_HEADER_BYTES: Final = 32 * 1024
MAX_TARGET_BYTES: Final = 8 * 1024
MAX_HEADER_FIELDS: Final = 100
MAX_PIPELINED: Final = 32
"""Requests of one connection worked on at a time; more wait unread."""
FREE_BODY_BYTES: Final = 64 * 1024
"""Bodies up to this size do not count against the budget."""
FRAMING_BYTES: Final = 512 * 1024
"""Chunk headers, extensions and trailers may be this much, plus an eighth of the body."""

HEADER_TIMEOUT_TICKS: Final = 10
BODY_TIMEOUT_TICKS: Final = 30
BODY_BYTES_PER_TICK_SHIFT: Final = 14
"""A slow body gets one more second for each 16 KiB that came."""
KEEP_ALIVE_TICKS: Final = 75
WRITE_TIMEOUT_TICKS: Final = 60
LINGER_TICKS: Final = 3
