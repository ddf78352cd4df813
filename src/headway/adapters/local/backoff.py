"""How long a crashed replica waits before it is started again. Pure.

Kubernetes waits 10, 20, 40 … 300 s and forgets after 10 minutes without a crash. On one machine a restart
is cheap and somebody is watching, so the first restart is immediate and the scale is a tenth of that: after
1, 2, 3, … consecutive crashes the wait is 0, 1, 2, 4 … 60 s.

Forgetting is gradual: every ``forget_s`` seconds of being ready take one crash off the score. A replica that
serves for a quarter of a minute between two kills from outside comes back at once each time, while one that
dies on its first request (ready for a moment only) soon waits the whole minute.
"""

from __future__ import annotations

FORGET_S = 10.0
"""Seconds of being ready that make up for one crash."""
LONGEST_S = 60.0


def score_after_crash(score: float, ready_s: float, forget_s: float = FORGET_S) -> float:
    """The crash score after one more crash, before which the replica had been ready for ``ready_s`` seconds."""
    return max(0.0, score - max(0.0, ready_s) / forget_s) + 1.0


def delay_s(score: float) -> float:
    """Seconds to wait: 0 for the first crash, then 1, 2, 4 … up to :data:`LONGEST_S`."""
    if score < 2:
        return 0.0
    doublings = min(int(score) - 2, 10)  # 2**10 is far beyond the cap: no overflow for absurd scores
    return min(LONGEST_S, float(2**doublings))


def looping(score: float) -> bool:
    """Whether this is a crash loop (``CrashLoopBackOff``): the second consecutive crash or a later one."""
    return score >= 2
