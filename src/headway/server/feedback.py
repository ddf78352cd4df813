"""``POST /feedback``: what became of predictions, into the query log of whichever replica is asked.

One object or a list of them, all of which are taken or none::

    {"request_id": "…", "reward": 0.7}
    {"request_id": "…", "outcome": true, "name": "clicked", "at": "2026-11-30T08:00:00Z"}
    {"request_id": "…", "outcome": "virginica", "prediction": "versicolor"}

``outcome`` is true or false (1 or 0), a number, or text: the truth, which is 1 when it is what ``prediction`` repeats
of the answer, else 0. Once it is answered it is in the kernel's hands, as a record of the log is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from time import time_ns
from typing import Any, Final

from headway.domain.errors import InvalidRequest, NotReady, PayloadTooLarge, Unsupported
from headway.domain.feedback import METRIC_NAME, METRIC_RULE, OUTCOME, REWARD, Feedback
from headway.server.bodies import check_json_type, inflate
from headway.server.http import REQUEST_ID, Request, Response, json_response
from headway.server.json_text import parse_json
from headway.server.query_log import QueryLogWriter

MOST: Final = 10_000
"""In one body."""
AHEAD_NS: Final = 3600 * 10**9
"""How far ``at`` may be ahead: clocks differ."""
RETRY_AFTER_S: Final = 1

_KEYS: Final = ("request_id", "reward", "outcome", "prediction", "name", "at")
_EXAMPLE: Final = 'for example {"request_id": "…", "reward": 0.7}'


class FeedbackDesk:
    """Takes feedback for one replica's process."""

    def __init__(self, query_log: QueryLogWriter | None, max_body_bytes: int) -> None:
        """``query_log`` None: nothing is logged, so there is nothing to join feedback to."""
        self._query_log = query_log
        self._max_body_bytes = max_body_bytes

    def take(self, request: Request) -> Response:
        """``POST /feedback``. Raises ``InvalidRequest`` and its kin, ``Unsupported``, ``NotReady``."""
        headers = request.headers
        check_json_type(headers.get(b"content-type", b""))
        body = request.body
        if b"content-encoding" in headers:
            body = inflate(body, headers[b"content-encoding"], self._max_body_bytes)
        found = parse_feedback(parse_json(body), time_ns())
        self.record(found)
        return json_response({"recorded": len(found)})

    def record(self, feedback: Sequence[Feedback]) -> None:
        """Write it, all or nothing, whatever protocol it came by.

        Raises ``Unsupported`` without a query log, ``NotReady`` when it cannot be written now.
        """
        if self._query_log is None:
            raise Unsupported("feedback is not kept: the query log is off", hint="HEADWAY_QUERY_LOG=true turns it on")
        if not self._query_log.feedback(feedback):
            raise NotReady(
                "the feedback could not be written",
                hint=f"send it again after {RETRY_AFTER_S} s",
                details={"retry_after_s": RETRY_AFTER_S},
            )


def parse_feedback(value: Any, now_ns: int) -> list[Feedback]:
    """A JSON value as feedback. Raises ``InvalidRequest``, ``PayloadTooLarge``."""
    if isinstance(value, Mapping):
        return [_one(value, "", now_ns)]
    if not isinstance(value, list) or not value:
        raise InvalidRequest("feedback is an object or a list of objects", hint=_EXAMPLE)
    if len(value) > MOST:
        raise PayloadTooLarge(f"{len(value)} pieces of feedback in one body", hint=f"send at most {MOST} at a time")
    return [_one(item, f"[{place}]", now_ns) for place, item in enumerate(value)]


def _one(item: Any, place: str, now_ns: int) -> Feedback:
    def where(key: str) -> str:
        return f"{place}.{key}" if place else key

    if not isinstance(item, Mapping):
        raise InvalidRequest("feedback is an object", where=place or None, hint=_EXAMPLE)
    unknown = [key for key in item if key not in _KEYS]
    if unknown:
        raise InvalidRequest(f"unknown key {unknown[0][:60]!r}", where=place or None, hint=f"keys: {', '.join(_KEYS)}")
    if ("reward" in item) == ("outcome" in item):
        raise InvalidRequest("one of reward and outcome is needed", where=place or None, hint=_EXAMPLE)
    request_id = item.get("request_id")
    if not isinstance(request_id, str) or REQUEST_ID.fullmatch(request_id.encode("utf-8", "replace")) is None:
        raise InvalidRequest(
            "the request's id is missing or is none", where=where("request_id"), hint="the answer's header x-request-id"
        )
    key = REWARD if "reward" in item else OUTCOME
    metric = item.get("name", key)
    if not isinstance(metric, str) or METRIC_NAME.fullmatch(metric) is None:
        raise InvalidRequest(f"a metric's name is {METRIC_RULE}", where=where("name"))
    if "prediction" in item and not isinstance(item.get("outcome"), str):
        raise InvalidRequest("prediction goes with an outcome that is text", where=where("prediction"))
    at_ns = _at_ns(item["at"], where("at"), now_ns) if "at" in item else now_ns
    return Feedback(request_id, metric, _value(item, key, where), at_ns)


def _value(item: Mapping[str, Any], key: str, where: Any) -> float:
    given = item[key]
    if key == OUTCOME and isinstance(given, str):
        prediction = item.get("prediction")
        if not isinstance(prediction, str):
            raise InvalidRequest(
                "an outcome that is text is compared with the prediction, which is not there",
                where=where("prediction"),
                hint='add what was predicted, "prediction": "…", or send true or false',
            )
        return float(given == prediction)
    wanted = "a number" if key == REWARD else "true, false, a number, or text beside a prediction"
    if isinstance(given, bool) and key == REWARD:
        raise InvalidRequest("a reward is a number", where=where(key), hint='true and false are an "outcome"')
    if not isinstance(given, (bool, int, float)):
        raise InvalidRequest(f"{'an' if key == OUTCOME else 'a'} {key} is {wanted}", where=where(key))
    try:
        value = float(given)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise InvalidRequest(f"the {key} is beyond what a double holds", where=where(key))
    return value


def _at_ns(given: Any, where: str, now_ns: int) -> int:
    hint = "seconds since the epoch, or like 2026-11-30T08:00:00Z"
    at_s: float | None = None
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        at_s = given
    elif isinstance(given, str):
        try:
            at = datetime.fromisoformat(given)
        except ValueError:
            at = None
        if at is not None and at.tzinfo is not None:
            at_s = at.timestamp()
    if at_s is None or not 0 <= at_s * 1e9 <= now_ns + AHEAD_NS:
        raise InvalidRequest("at is no instant of the past", where=where, hint=hint)
    return int(at_s * 1e9)
