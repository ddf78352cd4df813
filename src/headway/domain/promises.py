"""Promises about a service, as people write them: ``p95<1s``, ``errors<1%``. Pure.

A promise is kept when what was measured is below its bound. Without anything measured it is neither kept nor broken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headway.domain.errors import InvalidInput
from headway.domain.quantities import seconds, share

ERRORS: Final = "errors"
HINT: Final = "write for example 'p95<1s', 'mean<200ms' or 'errors<1%', in quotes"
_PROMISE: Final = re.compile(
    r"\s*(?P<what>p\d{1,2}(?:\.\d{1,3})?|mean|errors)\s*<=?\s*(?P<bound>\S{1,30})\s*", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Promise:
    """``what`` stays below ``bound``: seconds for a latency, a share between 0 and 1 for ``errors``."""

    what: str
    """``p95``, ``p99.9``, ``mean`` or ``errors``."""
    bound: float
    text: str
    """As it was written, without spaces."""

    @property
    def quantile(self) -> float | None:
        """0.95 of ``p95``; None when it is no quantile."""
        return float(self.what[1:]) / 100 if self.what.startswith("p") else None

    @property
    def of_latency(self) -> bool:
        return self.what != ERRORS


def parse(text: str, *, where: str = "--sla") -> Promise:
    """One promise. Raises ``InvalidInput`` at ``where``."""
    found = _PROMISE.fullmatch(text) if len(text) <= 100 else None
    if found is None:
        raise InvalidInput(f"{text[:60]!r} is not a promise", where=where, hint=HINT)
    what, bound = found["what"], found["bound"]
    try:
        value = share(bound) if what == ERRORS else seconds(bound)
    except ValueError as error:
        raise InvalidInput(str(error), where=where, hint=HINT) from None
    if value <= 0:
        raise InvalidInput(f"{text[:60]!r} can never be kept", where=where, hint=HINT)
    if what.startswith("p") and float(what[1:]) <= 0:
        raise InvalidInput(f"{what} is not a percentile", where=where, hint=HINT)
    return Promise(what, value, f"{what}<{bound}")


def parse_all(texts: Sequence[str], *, where: str = "--sla") -> tuple[Promise, ...]:
    """Several, each of another figure; one text may hold some of them, parted by commas."""
    found = tuple(parse(part, where=where) for text in texts for part in text.split(","))
    twice = {one.what for one in found if [other.what for other in found].count(one.what) > 1}
    if twice:
        raise InvalidInput(f"{min(twice)} is promised twice", where=where)
    return found
