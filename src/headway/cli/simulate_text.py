"""A simulation in words: the setting, a row per policy, and what follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from headway.cli.axes import figure
from headway.cli.load_text import latency
from headway.cli.output import count_text, moment
from headway.cli.times import length

Document = Mapping[str, Any]


def head(found: Document, took_s: float | None = None) -> Iterator[str]:
    """What was replayed."""
    replica = found["replica"]
    replayed = "" if took_s is None else f", replayed in {took_s:.1f} s"
    span = f"{moment(found['begin_at'])} to {moment(found['until'])}"
    yield f"{found['model']}: {found['requests']:,} requests, {span}{replayed}"
    yield (
        f"a replica works {latency(replica['work_s'])} on a request, {replica['servers']} at a time, "
        f"{replica['cores']:g} core{'' if replica['cores'] == 1 else 's'} each, "
        f"is ready after {latency(replica['start_s'])}"
    )


def columns(found: Document) -> list[str]:
    """Headings of :func:`rows`."""
    priced = ["price"] if any(one["price"] is not None for one in found["policies"]) else []
    return [
        *("policy", "average", "p75", "p95", "p99", "failed", "replicas", "changes", "core-hours"),
        *priced,
        *found["promises"],
    ]


def rows(found: Document) -> Iterator[list[str]]:
    """A row per policy."""
    for one in found["policies"]:
        figures, count = one["figures"], one["replicas"]
        price = [] if one["price"] is None else [money(one["price"])]
        yield [
            one["name"],
            *(latency(figures[name]) for name in ("average_s", "p75_s", "p95_s", "p99_s")),
            f"{one['failed_share']:.2%}".replace("%", " %"),
            f"{count['least']}-{count['most']}, {count['mean']:.2f}",
            str(one["changes"]),
            figure(one["core_hours"]),
            *price,
            *(_kept(each) for each in one["promises"]),
        ]


def money(price: float) -> str:
    """``1,234.50``; less than one with as many digits as tell it from another."""
    return f"{price:,.2f}" if price >= 1 or price == 0 else figure(price)


def _kept(promise: Document) -> str:
    """Over all, and if it was ever broken in how much of the windows."""
    told = "kept" if promise["kept"] else "broken"
    share = promise["broken_share"]
    return told if not share else f"{told}, {share:.1%} not".replace("%", " %")


def after(found: Document) -> Iterator[str]:
    """What follows, and what to know of it."""
    if found["promises"]:
        promised = " and ".join(found["promises"])
        if found["best"] is not None:
            yield f"{found['best']} is the cheapest that keeps {promised}"
    if any(0 < each["broken_share"] < 1 for one in found["policies"] for each in one["promises"]):
        yield f"beside a promise: in how many of the windows of {length(found['window_s'])} it was not kept"
    for one in found["policies"]:
        if one["not_replica_bound"]:
            times = count_text(one["not_replica_bound"], "time")
            yield f"{one['name']}: {times} a step did not help, since replicas were not what requests waited for"
    for told in found["notes"]:
        yield f"note: {told}"
