"""Annotations of a SeldonDeployment and its predictors: which of them say something that matters here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from headway.domain.seldon.graph import ENTRYPOINT, PATH
from headway.domain.seldon.reading import Notes, unsupported, wrong

TIMEOUTS: Final = ("seldon.io/rest-timeout", "seldon.io/rest-read-timeout")
HARMLESS: Final = {
    "seldon.io/engine-separate-pod": "nothing stands between gateway and model",
    "seldon.io/executor": "the model server runs graphs itself",
    "seldon.io/executor-logger-queue-size": "the query log has its own bounds",
    "seldon.io/grpc-max-message-size": "models answer by REST; maxBodySize bounds requests",
    "seldon.io/grpc-read-timeout": "models answer by REST",
    "seldon.io/grpc-timeout": "models answer by REST",
    "seldon.io/headless-svc": "models are reached through the gateway",
    "seldon.io/no-engine": "nothing stands between gateway and model anyway",
    "seldon.io/rest-connection-timeout": "connections are local",
    "seldon.io/rest-connect-retries": "the gateway retries what it may",
    "seldon.io/istio-gateway": "the gateway is Headway's",
    "seldon.io/istio-host": "the gateway is Headway's",
    "seldon.io/svc-name": "the model's name is its address",
    "project_name": "",
    "deployment_version": "",
}
HINTS: Final = {
    "seldon.io/ambassador-header": "pin a version by its URL, or see spec.sticky",
    "seldon.io/ambassador-regex-header": "pin a version by its URL, or see spec.sticky",
    "seldon.io/ambassador-shadow": "write shadow: true at the predictor",
    "seldon.io/istio-retries": "the gateway retries what it may",
}


@dataclass(frozen=True, slots=True)
class Annotated:
    """What annotations say."""

    timeout_s: float | None
    folders: Mapping[str, str]
    """Those of Headway: ``headway.dev/path.NODE``, ``headway.dev/entrypoint.NODE``."""


def read_annotations(places: Mapping[str, Mapping[str, str]], notes: Notes) -> Annotated:
    """``places``: annotations by where they stand; the later place wins. Refuses ``seldon.io/…`` that are unknown."""
    timeout_ms: int | None = None
    folders: dict[str, str] = {}
    for where, found in places.items():
        for key, value in found.items():
            place = f"{where}.{key}"
            if key in TIMEOUTS:
                timeout_ms = max(_milliseconds(value, place), timeout_ms or 0)
            elif key.startswith("headway.dev/"):
                if not key.startswith((PATH, ENTRYPOINT)):
                    wrong(place, f"unknown annotation {key[:80]}", f"{PATH} and {ENTRYPOINT}")
                folders[key] = value
            elif key in HARMLESS:
                if HARMLESS[key]:
                    notes.add(place, HARMLESS[key])
            elif key.startswith("seldon.io/"):
                unsupported(place, f"the annotation {key[:80]} is not supported", HINTS.get(key))
    return Annotated(None if timeout_ms is None else timeout_ms / 1000, folders)


def duration(seconds: float) -> str:
    """``1.5`` -> ``1500ms``."""
    milliseconds = max(1, math.ceil(seconds * 1000))
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def _milliseconds(text: str, where: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 3_600_000:
        wrong(where, f"{text[:40]!r} is not a number of milliseconds up to an hour")
    return int(text)
