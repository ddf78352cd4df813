"""Seldon's feedback message: what a prediction was worth, told afterwards.

``{"request": MESSAGE, "response": MESSAGE, "truth": MESSAGE, "reward": NUMBER}``, all of them optional; ``meta`` of the
response says which request it was (``puid``), which way it took through a graph (``routing``) and which version
answered (``requestPath``). Source: Seldon Core 1, "Feedback" of the external API reference, and its Python wrapper.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from headway.domain.errors import InvalidRequest, Unsupported
from headway.server.codecs.seldon import PAYLOADS, unfold
from headway.server.http import REQUEST_ID

PARTS: Final = ("request", "response", "truth", "reward")


@dataclass(frozen=True, slots=True)
class Lesson:
    """One feedback, as the user's ``send_feedback`` gets it."""

    features: Any
    """What was asked; None when the message does not tell."""
    names: Sequence[str]
    reward: float
    truth: Any
    rewarded: bool = False
    """Whether the message tells a reward at all."""
    puid: str | None = None
    """Which request it is about: the request's id; None without one that could be an id."""
    routing: dict[str, int] = field(default_factory=dict)
    """Which child each router had chosen."""
    version: str | None = None
    """Which version had answered; None when the message does not tell."""

    def give(self, send: Callable[..., Any], routing: int | None) -> Any:
        """Call ``send`` as Seldon's wrapper does. What its base class leaves open is no answer."""
        try:
            return send(self.features, list(self.names), self.reward, self.truth, **_routing(send, routing))
        except Exception as error:
            if type(error).__name__ == "SeldonNotImplementedError":
                return None
            raise


def lesson_of(message: Any, model: str) -> Lesson:
    """What ``message``, decoded JSON, says of a prediction by ``model``. Raises ``InvalidRequest``."""
    if type(message) is not dict:
        raise InvalidRequest("the body must be a JSON object", hint=f"with {', '.join(PARTS)}")
    unknown = [key for key in message if key not in PARTS]
    if unknown:
        raise InvalidRequest(f"unknown key {unknown[0][:60]!r}", hint=f"a feedback has {', '.join(PARTS)}")
    reward = message.get("reward", 0)
    if type(reward) not in (int, float) or not math.isfinite(reward):
        raise InvalidRequest("reward must be a number", where="reward")
    features, names = _payload(message.get("request"), "request")
    truth, _ = _payload(message.get("truth"), "truth")
    response = message.get("response") or {}
    if type(response) is not dict:
        raise InvalidRequest("response must be an object", where="response")
    meta = response.get("meta") or {}
    if type(meta) is not dict:
        raise InvalidRequest("meta must be an object", where="response.meta")
    puid = meta.get("puid")
    return Lesson(
        features,
        names,
        float(reward),
        truth,
        "reward" in message,
        puid if type(puid) is str and REQUEST_ID.fullmatch(puid.encode("utf-8", "replace")) else None,
        _chosen(meta.get("routing") or {}),
        _answered_by(meta.get("requestPath"), model),
    )


def request_path(model: str, version: str) -> str:
    """What stands in ``requestPath`` where Seldon has the image of a node: ``iris:v2``."""
    return f"{model}:{version}"


def _answered_by(path: Any, model: str) -> str | None:
    if type(path) is not dict:
        return None
    found = {v.removeprefix(f"{model}:") for v in path.values() if type(v) is str and v.startswith(f"{model}:")}
    return found.pop() if len(found) == 1 else None


def _chosen(routing: Any) -> dict[str, int]:
    if type(routing) is not dict or any(type(child) is not int for child in routing.values()):
        raise InvalidRequest("routing must be an object of whole numbers", where="response.meta.routing")
    return routing


def _payload(message: Any, where: str) -> tuple[Any, list[str]]:
    """The value in a Seldon message and the names of its columns; None without a message."""
    if message is None:
        return None, []
    if type(message) is not dict:
        raise InvalidRequest(f"{where} must be an object", where=where)
    given = [key for key in PAYLOADS if key in message]
    if len(given) > 1:
        raise InvalidRequest(f"{len(given)} payloads given", where=where, hint=f"one of {', '.join(PAYLOADS)}")
    if not given:
        return None, []
    value = message[given[0]]
    if given[0] == "jsonData":
        return value, []
    if given[0] == "data":
        return _data(value, f"{where}.data")
    if type(value) is not str:
        raise InvalidRequest(f"{given[0]} must be a string", where=where)
    if given[0] == "strData":
        return value, []
    try:
        return base64.b64decode(value, validate=True), []
    except (binascii.Error, ValueError):
        raise InvalidRequest("binData is not base64", where=where) from None


def _data(data: Any, where: str) -> tuple[Any, list[str]]:
    if type(data) is not dict:
        raise InvalidRequest("data must be an object", where=where)
    names = data.get("names") or []
    if type(names) is not list or not all(type(name) is str for name in names):
        raise InvalidRequest("names must be a list of strings", where=f"{where}.names")
    if "tftensor" in data:
        raise Unsupported("tftensor is not supported", where=f"{where}.tftensor", hint="send ndarray or tensor")
    if ("ndarray" in data) == ("tensor" in data):
        raise InvalidRequest("data needs ndarray or tensor", where=where)
    rows = data["ndarray"] if "ndarray" in data else unfold(data["tensor"])
    if type(rows) is not list:
        raise InvalidRequest("rows must be a JSON array", where=where)
    return _array(rows), names


def _array(rows: list[Any]) -> Any:
    """As numpy has it, where numpy is; rows of different lengths stay lists."""
    try:
        import numpy

        return numpy.array(rows)
    except (ImportError, ValueError, OverflowError):
        return rows


def _routing(send: Callable[..., Any], routing: int | None) -> dict[str, Any]:
    """The keyword ``routing``, for those that take it."""
    try:
        parameters = inspect.signature(send).parameters.values()
    except (TypeError, ValueError):
        return {"routing": routing}
    takes = any(p.name == "routing" or p.kind is p.VAR_KEYWORD for p in parameters)
    return {"routing": routing} if takes else {}
