"""What a load test comes to: whether its figures can be trusted, and whether the promises were kept. Pure.

A figure of a generator that was behind is a figure of the generator. So a verdict is refused, whatever the figures say,
when the slowest hundredth of the requests left later than :data:`LATE_S`, or than :data:`LATE_SHARE` of the p95 or of
the shortest time that is promised where that is more, or when a process of the generator used :data:`CPU_SHARE` of its
core.

Why a share: a latency that counts from when a request was due is too long by as much as the generator was late, so the
p95 is off by less than that. 5 % of what is promised is less than two runs of half a minute differ by, while 10 ms of a
promise of 20 ms would settle the verdict.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Final

from headway.domain.load_reports import (
    LEAST_REQUESTS,
    WINDOW_S,
    GeneratorHealth,
    Outcome,
    PromiseResult,
    Verdict,
)
from headway.domain.load_samples import Samples, failed, quantile, timed
from headway.domain.load_shapes import Arrivals, LoadShape
from headway.domain.promises import Promise
from headway.ports.load_generator import GeneratorState

LATE_S: Final = 0.010
LATE_SHARE: Final = 0.05
CPU_SHARE: Final = 0.95


def measure(promise: Promise, samples: Samples, places: Iterable[int]) -> float | None:
    """What the promise is about, of these requests; None when none of them says anything."""
    if not promise.of_latency:
        codes = [samples.status[place] for place in places]
        return sum(map(failed, codes)) / len(codes) if codes else None
    latencies = sorted(samples.latency_s(place) for place in places if timed(samples.status[place]))
    if promise.quantile is not None:
        return quantile(latencies, promise.quantile)
    return math.fsum(latencies) / len(latencies) if latencies else None


def breached(promises: Sequence[Promise], samples: Samples, places: Sequence[int]) -> Promise | None:
    """The first promise that these requests break; None as well when they are too few to tell."""
    if len(places) < LEAST_REQUESTS:
        return None
    for promise in promises:
        measured = measure(promise, samples, places)
        if measured is not None and measured >= promise.bound:
            return promise
    return None


def health(
    samples: Samples, lags_s: array[float], state: GeneratorState, promises: Sequence[Promise] = ()
) -> GeneratorHealth:
    """Of the generator, over the whole run; ``promises`` say how much it matters that it is late."""
    late = sorted([sent - due for sent, due in zip(samples.sent_s, samples.due_s, strict=True)] + list(lags_s))
    late_p99 = quantile(late, 0.99)
    p95 = quantile(samples.latencies(), 0.95)
    shortest = min((one.bound for one in promises if one.of_latency), default=0.0)
    allowed = max(LATE_S, LATE_SHARE * max(p95 or 0.0, shortest))
    reasons = []
    if late_p99 is not None and late_p99 > allowed:
        what = f"requests left up to {late_p99 * 1e3:.0f} ms late (p99; {allowed * 1e3:.0f} ms are allowed)"
        reasons.append(f"the generator fell behind: {what}")
    if state.waited:
        reasons.append(f"{state.waited} requests had to wait for a connection: as many were open as may be")
    if state.cpu_share is not None and state.cpu_share > CPU_SHARE:
        reasons.append(f"the generator used {state.cpu_share:.0%} of a core")
    return GeneratorHealth(
        saturated=bool(reasons),
        reasons=tuple(reasons),
        late_p99_s=late_p99,
        late_max_s=late[-1] if late else None,
        cpu_share=state.cpu_share,
        waited=state.waited,
    )


def verdict(
    promises: Sequence[Promise],
    samples: Samples,
    shape: LoadShape,
    found: GeneratorHealth,
    *,
    failure: str = "",
    breach: str = "",
) -> Verdict:
    """Of the whole run.

    Refused when the generator was saturated, when the load was not carried out as asked (``failure`` says why), when
    nothing was answered, or when a promise is about nothing that was measured while all others are kept. ``breach``:
    the promise that was broken for :data:`WINDOW_S` and ended the test; it is broken, however the whole looks.
    """
    results = tuple(_result(promise, samples, shape) for promise in promises)
    reasons = [*([failure] if failure else []), *found.reasons]
    if not failure and not len(samples):
        reasons.append("no request was answered")
    if reasons and (results or failure or not len(samples)):
        return Verdict(outcome=Outcome.REFUSED, promises=results, reasons=tuple(reasons))
    if not results:
        return Verdict(outcome=Outcome.NONE, promises=(), reasons=tuple(reasons))
    broken = [_broken_text(one) for one in results if one.kept is False]
    if breach and not any(one.promise == breach and one.kept is False for one in results):
        broken.append(f"{breach} was broken for {WINDOW_S:g} s, which ended the test")
    if broken:
        return Verdict(outcome=Outcome.BROKEN, promises=results, reasons=tuple(broken))
    untold = [f"{one.promise}: no request was answered in a way that tells" for one in results if one.kept is None]
    outcome = Outcome.REFUSED if untold else Outcome.KEPT
    return Verdict(outcome=outcome, promises=results, reasons=tuple(untold))


def _result(promise: Promise, samples: Samples, shape: LoadShape) -> PromiseResult:
    measured = measure(promise, samples, range(len(samples)))
    at_s = _first_broken(promise, samples)
    return PromiseResult(
        promise=promise.text,
        measured=measured,
        kept=None if measured is None else measured < promise.bound,
        broken_at_s=at_s,
        broken_at_load=None if at_s is None else _load_at(shape, at_s),
    )


def _load_at(shape: LoadShape, at_s: float) -> float:
    if shape.arrivals is Arrivals.RECORDED:
        return shape.offered(at_s, at_s + WINDOW_S)
    return shape.at(min(at_s, shape.duration_s * (1 - 1e-9)))


def _first_broken(promise: Promise, samples: Samples) -> float | None:
    windows: dict[int, list[int]] = {}
    for place, due_s in enumerate(samples.due_s):
        windows.setdefault(int(due_s // WINDOW_S), []).append(place)
    for number in sorted(windows):
        if breached((promise,), samples, windows[number]) is not None:
            return number * WINDOW_S
    return None


def _broken_text(result: PromiseResult) -> str:
    return f"{result.promise} was broken: {measured_text(result)}"


def measured_text(result: PromiseResult) -> str:
    """``1.23 s``, ``45.1 ms``, ``2.0 %``; a dash without a measurement."""
    value = result.measured
    if value is None:
        return "-"
    if result.promise.startswith("errors"):
        return f"{value:.2%}".replace("%", " %")
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"
