"""How a request waits for a first replica, as HAProxy rules and a Lua script. Pure.

Every backend has one more server, :data:`HOLDER`: a backup, so HAProxy turns to it when no replica can be reached, and
not before; also for a request whose replica is found dead while it is connected to. It takes one request at a time.
So the first request goes to it, and the others wait in the backend's own queue, where waiting costs nothing, ends when
the client leaves or the time is over, and where HAProxy looks for work the moment a replica is there.

The holder's address is a socket of this same HAProxy. The request that comes in there is the *head* of the queue: the
script ``hold.lua`` looks every few milliseconds whether a replica has come, then the head goes to the backend again.
When its time is over it is refused, and the next head comes; so each request waits as long as it may, in order. While
there is a head the script tells how many wait (:mod:`headway.adapters.haproxy.held`).

After a reload the old process has no way to new replicas: there the head, and all behind it, go to the holder's socket
again, where the new process listens. There they look for a replica side by side.

A request whose only replica dies comes here too. If it dies with the next as well it is refused: it may be what kills.
"""

from __future__ import annotations

from importlib.resources import files

from headway.adapters.haproxy.rules import AGAIN, reply
from headway.domain.errors import NotReady

HOLDER = "waiting"
"""Name of the server that holds; replicas' names have a dot."""
NEXT_WORKER = "next_worker"
"""Backend of a worker that a reload has replaced: all it has is the holder."""
SCRIPT_FILE = "hold.lua"


def script() -> str:
    """The Lua script."""
    return files("headway.adapters.haproxy").joinpath(SCRIPT_FILE).read_text(encoding="utf-8")


def holder_server(address: str, *, of_next_worker: bool = False) -> str:
    """A backend's line. No connection to it is kept: each is one request that waits."""
    takes = "" if of_next_worker else " backup maxconn 1"
    return f"server {HOLDER} {address}{takes} pool-max-conn 0"


def waiting_rules() -> list[str]:
    """Rules of the frontend behind the holder's socket."""
    named = "%[var(txn.model)] %[var(txn.version)]"
    none = reply(NotReady, f"no replica of {named} can be reached", dynamic=True)
    late = reply(NotReady, f"no replica of {named} was ready within %[var(txn.waited)] ms", AGAIN, dynamic=True)
    return [
        "http-request set-var(txn.model) req.fhdr(x-headway-model)",
        "http-request set-var(txn.version) req.fhdr(x-headway-version)",
        "http-request set-var(txn.route) var(txn.model),concat(/,txn.version)",
        "http-request set-var(txn.since) req.fhdr(x-headway-at),add(0) if { req.fhdr(x-headway-at) -m found }",
        "http-request lua.hold",
        f"http-request return {late} if {{ var(txn.hold) -m str late }}",
        "http-request set-var(txn.backend) var(txn.route),map_str(routes.map)",
        f"http-request return {none} if {{ var(txn.hold) -m str none }} || !{{ var(txn.hold) -m found }}",
        f"http-request return {none} if !{{ var(txn.backend) -m found }} || {{ var(txn.backend) -m str none }}",
        "http-request set-header x-headway-held-ms %[var(txn.waited)] if { var(txn.waited) -m found }",
        "http-request disable-l7-retry",
        "http-request set-priority-class int(-1)",
        # For the log of whoever passes the answer on: which replica it is from, or that it is our own.
        "http-response set-var(txn.answered) bool(true)",
        "http-response set-header x-headway-via %s unless { res.fhdr(x-headway-via) -m found }",
        "http-response set-header x-headway-held-ms %[var(txn.waited)] if { var(txn.waited) -m found }",
        "http-after-response set-header x-headway-via gateway unless { var(txn.answered) -m bool }",
        f"use_backend {NEXT_WORKER} if {{ var(txn.hold) -m str moved }}",
        "use_backend %[var(txn.backend)]",
    ]
