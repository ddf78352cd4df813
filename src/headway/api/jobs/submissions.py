"""Reading a submission: from headers, query parameters and body to what :class:`JobService` takes."""

from __future__ import annotations

from typing import Final

import msgspec

from headway.api.jobs.calls import Call
from headway.control.jobs.orders import (
    GATEWAY_KEY,
    MOST_BATCH,
    Item,
    Order,
    check_key,
    check_priority,
    check_route,
    check_times,
    moment,
)
from headway.domain.errors import InvalidInput, Unsupported, UnsupportedMediaType
from headway.domain.jobs import DEFAULT_PRIORITY

SUBMIT_PARAMETERS: Final = ("priority", "notBefore", "deadline", "webhook", "route")
CODINGS: Final = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
LINES: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
MOST_TYPE_CHARS: Final = 200
MOST_BATCH_BYTES: Final = 64 * 1024 * 1024
MOST_WAIT_S: Final = 60.0
BINARY_HEADER: Final = b"inference-header-content-length"


class _BatchItem(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    body: msgspec.Raw
    priority: int | None = None
    not_before: str | None = None
    deadline: str | None = None


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    jobs: list[_BatchItem]


_batch: Final = msgspec.json.Decoder(_Batch)
_any_json: Final = msgspec.json.Decoder(msgspec.Raw)


def came_in_at(call: Call, now: float) -> float:
    """When the gateway took the call: the same when it has to send it again."""
    told = call.headers.get(b"x-headway-at", b"")
    return int(told) / 1000 if told.isdigit() and len(told) < 16 else now


def order_of(call: Call, model: str, named: str | None, parameters: dict[str, str]) -> Order:
    """What all jobs of the call have in common. Raises ``InvalidInput``, ``UnsupportedMediaType``, ``Unsupported``."""
    coding = call.header(b"content-encoding").strip().lower()
    if coding not in CODINGS:
        raise UnsupportedMediaType(f"content encoding {coding[:40]!r} is not accepted", hint="gzip, deflate, identity")
    kind = call.header(b"content-type") or "application/json"
    if len(kind) > MOST_TYPE_CHARS or not kind.isascii() or not kind.isprintable():
        raise InvalidInput(f"must be at most {MOST_TYPE_CHARS} printable characters", where="Content-Type")
    if BINARY_HEADER in call.headers:
        raise Unsupported("jobs take tensors as JSON, not as binary data", where="Inference-Header-Content-Length")
    key: str | None = None
    if b"idempotency-key" in call.headers:
        key = check_key(call.header(b"idempotency-key"))
    elif gateway := call.header(b"x-headway-key"):
        key = GATEWAY_KEY + gateway
    return Order(
        model=model,
        drawn=call.header(b"x-headway-version") or None if named is None else None,
        named=named,
        client=call.header(b"x-headway-client"),
        request_id=call.header(b"x-request-id"),
        route=check_route(parameters["route"], model) if "route" in parameters else "/predict",
        content_type=kind,
        content_encoding="" if coding == "identity" else coding,
        key=key,
        webhook=parameters.get("webhook"),
        asked="" if named is None and not parameters else f"{named} {sorted(parameters.items())}",
    )


def item_of(body: bytes, parameters: dict[str, str], at: float) -> Item:
    """One job with ``body`` and what the query parameters say of it. Raises ``InvalidInput``."""
    if not parameters:
        return Item(body)
    return check_times(
        Item(
            body,
            check_priority(parameters["priority"]) if "priority" in parameters else DEFAULT_PRIORITY,
            moment(parameters["notBefore"], "notBefore", at) if "notBefore" in parameters else None,
            moment(parameters["deadline"], "deadline", at) if "deadline" in parameters else None,
        ),
        at,
    )


def batch_items(kind: str, body: bytes, parameters: dict[str, str], at: float) -> list[Item]:
    """The jobs of a batch, at least one. Raises ``InvalidInput``, ``UnsupportedMediaType``."""
    name = kind.partition(";")[0].strip().lower()
    if name in LINES:
        items = _lines(body, item_of(b"", parameters, at))
    elif name == "application/json":
        items = _document(body, parameters, at)
    else:
        raise UnsupportedMediaType(
            f"content type {kind[:60]!r} is no batch", hint="application/x-ndjson, or application/json with a list jobs"
        )
    if not items:
        raise InvalidInput("the batch holds no job", where="body")
    if len(items) > MOST_BATCH:
        raise InvalidInput(f"the batch holds {len(items)} jobs; at most {MOST_BATCH}", where="body")
    return items


def _lines(body: bytes, common: Item) -> list[Item]:
    items = []
    for number, line in enumerate(body.split(b"\n"), 1):
        stripped = line.strip()
        if not stripped:
            continue
        try:
            _any_json.decode(stripped)
        except msgspec.DecodeError as error:
            raise InvalidInput(f"is not JSON: {error}", where=f"line {number}") from None
        items.append(Item(stripped, common.priority, common.not_before, common.deadline_at))
    return items


def _document(body: bytes, parameters: dict[str, str], at: float) -> list[Item]:
    try:
        found = _batch.decode(body)
    except msgspec.DecodeError as error:
        raise InvalidInput(str(error)[:200], where="body", hint='{"jobs": [{"body": …}, …]}') from None
    common = item_of(b"", parameters, at)
    items = []
    for number, one in enumerate(found.jobs):
        where = f"jobs[{number}]"
        priority = common.priority
        if one.priority is not None:
            priority = check_priority(str(one.priority), f"{where}.priority")
        begin, end = common.not_before, common.deadline_at
        if one.not_before is not None:
            begin = moment(one.not_before, f"{where}.notBefore", at)
        if one.deadline is not None:
            end = moment(one.deadline, f"{where}.deadline", at)
        asked = f"{one.not_before} {one.deadline}"
        items.append(check_times(Item(bytes(one.body), priority, begin, end, asked), at))
    return items


def preferred_wait(prefer: str) -> float | None:
    """Seconds of ``Prefer: wait=N`` (RFC 7240), at most :data:`MOST_WAIT_S`; other preferences are not ours.

    Raises ``InvalidInput`` for a wait that is no number.
    """
    for preference in prefer.replace(";", ",").split(","):
        name, _, value = preference.partition("=")
        if name.strip().lower() == "wait":
            return min(_seconds(value.strip().strip('"'), "Prefer", None), MOST_WAIT_S)
    return None


def asked_wait(text: str) -> float:
    """Seconds of ``?wait=N``. Raises ``InvalidInput``."""
    return _seconds(text, "?wait", MOST_WAIT_S)


def cursor(text: str, where: str) -> int:
    """A place in a stream of events. Raises ``InvalidInput``."""
    return _whole(text, where, 0, 2**63 - 1)


def page_size(text: str) -> int:
    """How many jobs a list holds. Raises ``InvalidInput``."""
    return _whole(text, "?limit", 1, 1000)


def _whole(text: str, where: str, least: int, most: int) -> int:
    if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:
        return int(text)
    raise InvalidInput(f"{text[:40]!r} is no whole number from {least} to {most}", where=where)


def _seconds(text: str, where: str, most: float | None) -> float:
    plain = text.replace(".", "", 1)
    if plain.isascii() and plain.isdigit() and len(text) < 12 and (most is None or float(text) <= most):
        return float(text)
    limit = f" up to {most:g}" if most is not None else ""
    raise InvalidInput(f"{text[:40]!r} is no number of seconds{limit}", where=where)
