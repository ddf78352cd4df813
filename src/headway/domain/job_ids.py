"""Ids of jobs: 26 characters of Crockford's base 32, of which the first ten are the time in milliseconds.

The layout is that of a ULID: ids sort by time of submission, and the other sixteen characters are 80 random bits, so
an id cannot be guessed. Time and random bits are passed in.
"""

from __future__ import annotations

import re
from typing import Final

from headway.domain.errors import InvalidInput

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
JOB_ID: Final = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}")
RANDOM_BYTES: Final = 10


def new_id(at: float, random: bytes) -> str:
    """The id of a job submitted at ``at`` (seconds since the epoch); ``random``: ``RANDOM_BYTES`` bytes."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"{RANDOM_BYTES} random bytes are needed, not {len(random)}")
    number = (int(at * 1000) << 80) | int.from_bytes(random, "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def check_job_id(job_id: str, model: str) -> str:
    """``job_id`` as a caller wrote it for a job of ``model``. Raises ``InvalidInput``."""
    if not JOB_ID.fullmatch(job_id):
        hint = f"ids have 26 characters; headway job list {model} shows them"
        raise InvalidInput(f"{job_id[:40]!r} is no job id", where="ID", hint=hint)
    return job_id
