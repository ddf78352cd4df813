"""Calls for jobs: the job server's backend, and how a call waits while the job server is being started again. Pure.

HAProxy tries again at once when a Unix socket refuses, so all its retries are gone in a millisecond. Instead the first
refusal marks the job server down, and the call goes to the backup server, which is HAProxy itself: a frontend that
lets it wait a little and sends it to the same backend again, up to ``MOST_TURNS`` times. Checks every 0.2 s mark the
job server up again. A call that breaks off goes the same way, as long as it lies in the buffer as a whole: submissions
carry a key by which the second one is known for the first.
"""

from __future__ import annotations

from typing import Final

from headway.adapters.haproxy.maps import JOBS_BACKEND
from headway.adapters.haproxy.rules import AGAIN, reply
from headway.domain.errors import NotReady, PayloadTooLarge

TIMEOUT_S: Final = 75.0
"""Job calls wait up to a minute for the end of a job, and streams say something every 15 s."""
MOST_BODY: Final = 1024**3
"""Beyond it no model may take any body; what one model takes the job server knows."""
TURN_MS: Final = 500
MOST_TURNS: Final = 20
"""Together ten seconds."""
AGAIN_FRONTEND: Final = "jobs-again"
_TURNS: Final = "x-headway-turns"


def again_rules() -> list[str]:
    """Rules of the frontend behind the backup server."""
    gone = reply(NotReady, "the job server does not answer; it is being started again", AGAIN)
    return [
        f"tcp-request inspect-delay {TURN_MS}ms",
        "tcp-request content accept if WAIT_END",
        f"http-request set-var(txn.turns) req.fhdr({_TURNS}),add(1)",
        f"http-request return {gone} if {{ var(txn.turns) -m int gt {MOST_TURNS} }}",
        f"http-request set-header {_TURNS} %[var(txn.turns)]",
        f"use_backend {JOBS_BACKEND}",
    ]


def backend_lines(address: str, again: str, *, retries: bool, body_timeout_ms: int) -> list[str]:
    """The job server at ``address``; ``again``: where :func:`again_rules` hold. Both quoted."""
    large = reply(PayloadTooLarge, f"the body is larger than {MOST_BODY} bytes")
    check = "check inter 200ms fall 1 rise 1 observe layer4 error-limit 1 on-error mark-down"
    return [
        f"timeout server {round(TIMEOUT_S * 1000)}ms",
        f"http-request return {large} if {{ req.body_size gt {MOST_BODY} }}",
        f"http-request set-header {_TURNS} 0 unless {{ req.fhdr({_TURNS}) -m found }}",
        f"http-request wait-for-body time {body_timeout_ms}ms",
        f"server jobs {address} {check if retries else ''}".rstrip(),
        *([f"server again {again} backup"] if retries else []),
    ]
