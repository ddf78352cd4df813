"""Feedback: what became of a prediction, said by whoever learned it later, named by the request's id. Plain data.

It is kept beside the query log and joined to it by the request id, so it counts for the version and the arm that
answered. Of several with the same request and metric the last one counts: the greatest ``at_ns``, among equals the
one that came last. What names a request that the log does not know is kept, and counted as unmatched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

REWARD: Final = "reward"
"""Metric of ``{"reward": ...}`` without a name."""
OUTCOME: Final = "outcome"
"""Metric of ``{"outcome": ...}`` without a name."""
METRIC_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
METRIC_RULE: Final = "letters, digits, '_', '.' and '-', at most 64, a letter or digit first"


@dataclass(frozen=True, slots=True)
class Feedback:
    """One figure about one request; more is better."""

    request_id: str
    metric: str
    value: float
    """Finite. True and false are 1 and 0."""
    at_ns: int
    """Wall clock at which it was true, as the caller said, else when it came."""
