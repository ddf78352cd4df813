"""The rules of a trial as options of ``headway deploy``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from headway.cli.compare import share
from headway.domain.errors import InvalidInput
from headway.domain.quantities import span_seconds

if TYPE_CHECKING:
    from headway.api.schemas_deploy import TrialBody

MARGINS: Final = ("latency", "errors", "outcome")


def trial_of(
    *,
    steps: str | None,
    at_least: str | None,
    at_most: str | None,
    then: str | None,
    margins: list[str] | None,
    metrics: list[str] | None,
) -> dict[str, tuple[str, Any]]:
    """What was said, by option: the name of the rule and its value. Raises ``InvalidInput``."""
    said: dict[str, tuple[str, Any]] = {}
    if steps is not None:
        said["--steps"] = ("steps", _steps(steps))
    if at_least is not None:
        said["--step-at-least"] = ("at_least_s", _seconds(at_least, "--step-at-least"))
    if at_most is not None:
        said["--step-at-most"] = ("at_most_s", _seconds(at_most, "--step-at-most"))
    if then is not None:
        if then not in ("hold", "promote", "rollback"):
            raise InvalidInput(f"{then[:40]!r} is no end of a step", where="--then", hint="hold, promote or rollback")
        said["--then"] = ("then", then)
    if margins:
        said["--margin"] = ("margins", _margins(margins))
    if metrics:
        said["--metric"] = ("metrics", metrics)
    return said


def body_of(said: dict[str, tuple[str, Any]]) -> TrialBody:
    """As the control API takes it."""
    from headway.api.schemas_deploy import TrialBody

    return TrialBody(**dict(said.values()))


def _steps(text: str) -> list[int]:
    pieces = [piece.strip().removesuffix("%").strip() for piece in text.split(",")]
    if not all(re.fullmatch(r"\d{1,3}", piece) for piece in pieces):
        raise InvalidInput(f"{text[:60]!r} are no steps", where="--steps", hint="for example 5,10,25,50,100")
    return [int(piece) for piece in pieces]


def _seconds(text: str, where: str) -> float:
    try:
        return span_seconds(text)
    except ValueError:
        raise InvalidInput(
            f"{text[:40]!r} is no length of time", where=where, hint="for example 90s, 10m, 2h"
        ) from None


def _margins(texts: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in MARGINS or name in found:
            raise InvalidInput(
                f"{text[:60]!r} is no margin",
                where="--margin",
                hint="one of each: latency=10%, errors=0.5%, outcome=0.02",
            )
        found[name] = share(value, "--margin", most=1e12)
    return found
