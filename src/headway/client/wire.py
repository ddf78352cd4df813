"""What comes over the wire, as values: answers, errors and server-sent events. No I/O of its own."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from headway.api.schemas import EventView
from headway.domain.errors import (
    DeadlineExceeded,
    DeployFailed,
    Forbidden,
    HeadwayError,
    NotFound,
    NotReady,
    Overloaded,
    PayloadTooLarge,
    Unauthenticated,
    tree,
)

V = TypeVar("V", bound=BaseModel)

_BY_STATUS: Final[dict[int, type[HeadwayError]]] = {
    cls.status: cls
    for cls in (Unauthenticated, Forbidden, NotFound, PayloadTooLarge, Overloaded, NotReady, DeadlineExceeded)
}
"""For answers without a body of ours: to ``HEAD``, or by a proxy in between."""
_MAX_LINE = 4 * 1024 * 1024


def error_class(code: object) -> type[HeadwayError] | None:
    """The class of the tree with that code; None for one that this release does not know."""
    return next((cls for cls in tree() if cls.code == code), None)


def error_of(status: int, content: bytes, said_by: str) -> HeadwayError:
    """The error that an answer of 400 or above tells of."""
    try:
        told = json.loads(content)["error"]
        return error_of_document(told, _BY_STATUS.get(status, HeadwayError))
    except (ValueError, LookupError, TypeError, RecursionError):
        kind = _BY_STATUS.get(status, HeadwayError)
        return kind(f"{said_by} answered {status} without saying why", details={"status": status})


def error_of_document(told: dict[str, Any], otherwise: type[HeadwayError] = HeadwayError) -> HeadwayError:
    """The error whose JSON form this is; of the class ``otherwise`` when this release does not know its code."""
    code = told["code"]
    kind = error_class(code) or otherwise
    details = told.get("details")
    details = dict(details) if isinstance(details, dict) else {}
    if kind.code != code:
        details.setdefault("code", code)
    return kind(str(told["message"]), where=_text(told.get("where")), hint=_text(told.get("hint")), details=details)


def failure_of(failure: dict[str, Any], model: str, version: str) -> HeadwayError:
    """The error that a failed version's ``failure`` tells of."""
    code = failure.get("code")
    kind = error_class(code)
    if kind is None or kind is HeadwayError:
        kind = DeployFailed
    details = {"model": model, "version": version, "log_tail": str(failure.get("log_tail") or "")}
    if kind.code != code:
        details["code"] = str(code)
    return kind(
        str(failure.get("message") or f"{model} {version} failed"),
        where=_text(failure.get("where")),
        hint=_text(failure.get("hint")),
        details=details,
    )


def json_of(content: bytes, said_by: str) -> Any:
    """The JSON of an answer; half surrogate pairs, which a model may have printed, become U+FFFD."""
    try:
        found = json.loads(content)
        return _whole(found) if b"\\ud" in content.lower() else found
    except (ValueError, RecursionError) as error:
        raise HeadwayError(f"{said_by} sent something that is not JSON", hint=_VERSIONS) from error


def view_of(kind: type[V], data: object, said_by: str) -> V:
    """``data`` as a view. ``HeadwayError`` when it does not have that form."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        what = f"{error.error_count()} fields are not as expected"
        raise HeadwayError(f"{said_by} sent an unknown form of {kind.__name__}: {what}", hint=_VERSIONS) from error


def views_of(kind: type[V], data: object, said_by: str) -> list[V]:
    """``data`` as a list of views."""
    if not isinstance(data, list):
        raise HeadwayError(f"{said_by} sent no list of {kind.__name__}", hint=_VERSIONS)
    return [view_of(kind, one, said_by) for one in data]


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event: where to resume after it, and what it says."""

    id: str
    data: str
    event: str = ""


def frames_of(chunks: Iterable[bytes]) -> Iterator[Frame | None]:
    """Events from a stream (WHATWG HTML, *Server-sent events*), as far as Headway's own streams need it.

    None stands for a comment: nothing happened, but the other side is there.
    """
    data: list[str] = []
    place = kind = ""
    for line in lines_of(chunks):
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif line.startswith("id:"):
            place = line[3:].removeprefix(" ")
        elif line.startswith("event:"):
            kind = line[6:].removeprefix(" ")
        elif line.startswith(":"):
            yield None
        elif not line and data:
            yield Frame(place, "\n".join(data), kind)
            data.clear()
            kind = ""


def events_of(chunks: Iterable[bytes], said_by: str) -> Iterator[EventView | None]:
    """The events of Headway's own log from a stream; None as in :func:`frames_of`."""
    for frame in frames_of(chunks):
        yield None if frame is None else view_of(EventView, json_of(frame.data.encode(), said_by), said_by)


def lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines, without their ends (LF or CR LF), as soon as they are whole; the last one may lack its end.

    Only these end a line: a form feed or U+2028 that a model prints does not. A line that never ends is cut.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + decoder.decode(chunk)).split("\n")
        for line in whole:
            yield line.removesuffix("\r")
        if len(rest) > _MAX_LINE:
            yield rest
            rest = ""
    rest += decoder.decode(b"", True)
    if rest:
        yield rest


_VERSIONS = "headway info tells both versions; they may be too far apart"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(one) for key, one in value.items()}
    return value
