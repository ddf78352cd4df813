"""What HAProxy itself writes to the query log: a line for each request that it answered or retried. Pure.

The lines (:data:`headway.domain.query_segments.GATEWAY_FIELDS`) go to the file that HAProxy was started with as its
standard input and standard output. All its processes share the one open file and its position, so they write one after
the other, each line with one ``writev``. HAProxy waits for nothing: what a full disk refuses is gone, and the hole in
``line`` tells. Nor does a thread wait for another that is kept from finishing its line to the same descriptor; on a
busy machine that cost a line in a thousand. So there are two descriptors and every line is written to both: its two
copies stand near each other, and none was lost in 570,000. The order of lines is not exactly that of their numbers.

Which requests: everything is logged at level ``err``, and the log takes nothing less severe, so HAProxy's own notices
stay out. ``http-response`` rules run for answers of replicas only; there a request that was never retried becomes
silent.
"""

from __future__ import annotations

from typing import Final

from headway.domain.query_segments import GATEWAY_FIELDS

LOG_FDS: Final = (0, 1)
PATH_BYTES: Final = 200
LINE_BYTES: Final = 4096
"""More than the longest line: 200 bytes of path as ``\\u00XX`` each, an id of 128, names of 63 and less."""

_NO_MODEL: Final = r"^\"(-.*|.*-|.*[^a-z0-9-].*|.{41,})\"$"
_NO_VERSION: Final = r"^\"(v|[^v].*|v0.*|v.*[^0-9].*|.{11,})\"$"


def _text(variable: str, *, but: str = "") -> str:
    """``variable`` as a JSON string, empty when it is not set or matches ``but``.

    The quotes are part of the sample, since HAProxy writes ``-`` for an empty one.
    """
    refused = rf',regsub("{but}","\"\"")' if but else ""
    return rf'%[str(),concat("\"",txn.{variable},"\""){refused}]'


_FIELDS: Final = {
    "pid": "%pid",
    # %lc is read and counted up in two steps, between which the other thread may write a line.
    "line": "%[sc_inc_gpc0(0)]",
    "at_ms": "%[var(txn.at)]",
    "total_ms": "%Ta",
    # Not %ST: it is 502 for an error page that goes out as 503.
    "status": "%[var(txn.status,-1)]",
    "bytes_in": "%U",
    "bytes_out": "%B",
    "retries": '"%rc"',  # may begin with a plus sign, which no number does in JSON
    # An answer that came through the holder: first who gave it. What is HAProxy's own has "LR" before its letters.
    "server": r'%[str(),concat("\"",txn.via)]%s"',
    "ends": r'%[str(),concat("\"",txn.own)]%ts"',
    "request_id": _text("id"),
    "model": _text("model", but=_NO_MODEL),
    "version": _text("version", but=_NO_VERSION),
    "client": _text("client"),
    "arm": '"%[var(txn.arm,split)]"',
    "path": '"%[var(txn.path),json(utf8s)]"',
}
_UNREAD: Final = {
    "at_ms": "%[date(0,ms)]",
    "status": "%ST",
    "server": '"%s"',
    "ends": '"%ts"',
    "request_id": '""',
    "model": '""',
    "version": '""',
    "client": '""',
    "arm": '"split"',
    "path": '""',
}
"""Of bytes that were no request: no rule ran, so there are no variables."""


def log_options() -> list[str]:
    """Lines of the frontend that say what is written, and where."""
    line = ",".join(_FIELDS[name] for name in GATEWAY_FIELDS)
    unread = ",".join((_FIELDS | _UNREAD)[name] for name in GATEWAY_FIELDS)
    return [
        *(f"log fd@{fd} len {LINE_BYTES} format raw local0 err" for fd in LOG_FDS),
        "option log-separate-errors",  # bytes that are no request are logged at level err too
        "option dontlognull",  # but not connections without any
        f"log-format '[{line}]'",
        f"error-log-format '[{unread}]'",
        # One counter for all: read and counted up under a lock. It goes by connection, because that costs least.
        "stick-table type integer size 100 store gpc0",
        "tcp-request connection track-sc0 int(1)",
    ]


def log_rules() -> list[str]:
    """To be the first of all: what is remembered of a request for its line."""
    return [
        "acl below_models path -m beg /models/",
        "http-request set-log-level err",
        "http-request set-log-level silent unless below_models",
        "http-request set-var(txn.at) date(0,ms)",
        f"http-request set-var(txn.path) path,bytes(0,{PATH_BYTES})",
        "acl held res.fhdr(x-headway-via) -m found",
        "acl own_answer res.fhdr(x-headway-via) -m str gateway",
        'http-response set-var-fmt(txn.via) "%[res.fhdr(x-headway-via)] " if held',
        "http-response set-var(txn.own) str(LR) if own_answer",
        "http-response set-var-fmt(txn.tries) %rc unless own_answer",
        "http-response del-header x-headway-via if held",
        "http-response set-log-level silent if { var(txn.tries) -m str 0 }",
        # For HAProxy's own answers, and for those that took more than one try.
        "http-after-response set-var(txn.status) status unless { var(txn.tries) -m str 0 }",
    ]
