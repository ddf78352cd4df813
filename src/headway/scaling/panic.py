"""Bursts: Knative's panic mode.

The same load over a short window says how many replicas a burst asks for. When that is ``threshold`` times the ready
ones or more, the autoscaler panics: it follows the short window, keeps its highest wish and does not shrink, until one
stable window after the last time it was over the threshold. Source: Knative serving,
``pkg/autoscaler/scaling/autoscaler.go``.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

from headway.scaling.policy import ReplicaTrigger
from headway.scaling.said import Said, up
from headway.scaling.samples import PerReplica


def burst_wish(trigger: ReplicaTrigger, reading: PerReplica) -> int | None:
    """Replicas that the load over the panic window asks for; None when it was not measured."""
    total, measured = 0.0, 0
    for ready, _, _, burst, _ in reading.replicas:
        if ready and burst is not None and 0.0 <= burst < inf:
            total += burst
            measured += 1
    return up(total / trigger.target) if measured else None


def is_over(wish: int, ready: int, threshold: float) -> bool:
    """Whether a burst's wish begins a panic, or prolongs it."""
    return wish / max(1, ready) >= threshold


def watch(
    trigger: ReplicaTrigger, reading: PerReplica, ready: int, said: Said, until: float | None, now: float
) -> tuple[Said, float | None]:
    """The trigger's answer, the larger one of its two windows in panic, and until when the panic lasts."""
    assert trigger.panic is not None
    wish = burst_wish(trigger, reading)
    if wish is None:
        return said, until
    if is_over(wish, ready, trigger.panic.threshold):
        until = now + trigger.window_s if until is None else max(until, now + trigger.window_s)
    proposal = said.proposal
    if until is None or now > until or proposal.desired is None or proposal.desired >= wish:
        return said, until
    note = f"{proposal.note}; the last {trigger.panic.window_s:g} s ask for {wish}"
    return said._replace(proposal=replace(proposal, desired=wish, note=note)), until
