"""``behavior`` of ``autoscaling/v2``: stabilization windows and scaling rules.

Stabilization: upwards no further than the smallest wish within the window, downwards no further than the largest one.
Rules: how far the count may be, after this change, from what it was one period ago; ``selectPolicy`` picks among
several. Source: Kubernetes' "Configurable scaling behavior" and the HPA controller's ``horizontal.go``.
"""

from __future__ import annotations

from math import ceil

from headway.scaling.policy import Direction, Policy, Rule, RuleType, Select
from headway.scaling.said import ROUNDING

Queue = tuple[tuple[float, int], ...]


def push_smallest(queue: Queue, wish: int, window_s: float, now: float) -> Queue:
    """The queue with one more wish: times and wishes rise, so its first one is the smallest within the window."""
    if window_s <= 0.0:
        return ()
    end = len(queue)
    while end and queue[end - 1][1] >= wish:
        end -= 1
    return (*_within(queue[:end], now - window_s), (now, wish))


def push_largest(queue: Queue, wish: int, window_s: float, now: float) -> Queue:
    """The same with falling wishes: the first one is the largest."""
    if window_s <= 0.0:
        return ()
    end = len(queue)
    while end and queue[end - 1][1] <= wish:
        end -= 1
    return (*_within(queue[:end], now - window_s), (now, wish))


def expire(queue: Queue, window_s: float, now: float) -> Queue:
    """The queue without what has left the window."""
    return _within(queue, now - window_s) if queue and window_s > 0.0 else ()


def _within(queue: Queue, after: float) -> Queue:
    start = 0
    while start < len(queue) and queue[start][0] <= after:
        start += 1
    return queue[start:] if start else queue


def stabilize(wish: int, current: int, ups: Queue, downs: Queue) -> int:
    """From the present count only as far as all of a window's wishes go."""
    if wish > current:
        return max(current, min(wish, ups[0][1])) if ups else wish
    if wish < current:
        return min(current, max(wish, downs[0][1])) if downs else wish
    return wish


def most_allowed(direction: Direction, current: int, changes: Queue, now: float) -> int | None:
    """The largest count that the scale-up rules allow now; None for any."""
    if direction.select is Select.DISABLED:
        return current
    if not direction.rules:
        return None
    limits = [_most(rule, _period_start(rule, current, changes, now)) for rule in direction.rules]
    return max(current, min(limits) if direction.select is Select.MIN else max(limits))


def least_allowed(direction: Direction, current: int, changes: Queue, now: float) -> int:
    """The smallest count that the scale-down rules allow now. ``Min`` is the smallest change, so the largest count."""
    if direction.select is Select.DISABLED:
        return current
    if not direction.rules:
        return 0
    limits = [_least(rule, _period_start(rule, current, changes, now)) for rule in direction.rules]
    return min(current, max(limits) if direction.select is Select.MIN else min(limits))


def _most(rule: Rule, start: int) -> int:
    if rule.type is RuleType.PODS:
        return start + rule.value
    return ceil(start * (100 + rule.value) / 100 - ROUNDING)


def _least(rule: Rule, start: int) -> int:
    if rule.type is RuleType.PODS:
        return start - rule.value
    return int(start * (100 - rule.value) / 100 + ROUNDING)


def _period_start(rule: Rule, current: int, changes: Queue, now: float) -> int:
    """The count one period ago."""
    after = now - rule.period_s
    return current - sum(difference for at, difference in changes if at > after)


def longest_period_s(policy: Policy) -> float:
    """Changes older than this matter to no rule."""
    longest = 0.0
    for direction in (policy.up, policy.down):
        for rule in direction.rules:
            longest = max(longest, rule.period_s)
    return longest


def recent_changes(changes: Queue, longest_s: float, now: float) -> Queue:
    """The changes that may still matter."""
    return _within(changes, now - longest_s)
