"""What ``headway plan`` tells people, and what stands on the page beside its picture.

``width``: of the terminal, to which longer lines are folded; None: of a pipe, where a line is a line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from headway.cli.axes import figure
from headway.cli.output import GAP, count_text
from headway.cli.plan_flags import CPU_CEILING, MOST_FAILED
from headway.cli.plan_policy import following
from headway.cli.scaling_text import folded
from headway.cli.simulate_text import money
from headway.cli.times import local
from headway.planning.measured import Point, Users

if TYPE_CHECKING:
    from headway.api.schemas_plans import PlanView

Plan = Mapping[str, Any]
PLACES: Final = ("replicas", "requests/s", "cores", "nodes", "price")
"""Columns of figures: they stand below each other at their right end."""


def time_text(seconds: float | None) -> str:
    """``12.3 ms``, ``1.20 s``."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def load_text(load: Mapping[str, Any]) -> str:
    """``120 users``, ``50 requests/s``."""
    return size_text(load["kind"], load["size"])


def size_text(kind: str, size: float) -> str:
    if kind == "users":
        return f"{size:.0f} user{'' if round(size) == 1 else 's'}"
    return f"{size:.3g} requests/s" if size < 1000 else f"{size:.0f} requests/s"


def percent(share: float) -> str:
    """``16.3 %``, ``85 %``."""
    return f"{100 * share:.3g} %"


def promised_text(plan: Plan) -> str:
    """``p95<1s and errors<0.1 %``: the second one is promised by default, too."""
    return f"{plan['promise']} and errors<{percent(plan['errors'])}" if "errors" in plan else str(plan["promise"])


def point_line(point: Point, kept: bool | None) -> str:
    """A measured point, while it is going on."""
    load = point.load
    size = size_text("users", load.count) if isinstance(load, Users) else size_text("rate", load.per_s)
    verdict = "" if kept is None else "  kept" if kept else "  broken"
    cpu = "" if point.cpu is None else f"  cpu {100 * point.cpu:.0f} %"
    failed = f"  {100 * point.failed_share:.1f} % failed" if point.failed_share else ""
    return (
        f"{point.replicas} × {size:<18} {point.rate_per_s:8.1f}/s  {time_text(point.value_s):>9}{cpu}{failed}{verdict}"
    )


def report(name: str, stored: PlanView, width: int | None = None) -> Iterator[Text]:
    """The plan, a line each."""
    plan = stored.document
    yield Text(f"{name} {stored.basis.version}: {promised_text(plan)}", "bold")
    yield Text(made(stored), "dim")
    if stored.stale:
        yield from folded("stale: ", "; ".join(stored.stale), width, style="bold red")
        yield from folded("  measure again: ", again(name, plan), width, style="red")
    yield Text()
    for told, style in answer(plan):
        yield from folded(" " * (len(told) - len(told.lstrip())), told.lstrip(), width, style=style)
    if plan["answer"] is not None:
        yield Text()
    heads, *body = _lined([columns(plan), *rows(plan)])
    yield Text(heads, "bold")
    yield from (Text(line) for line in body)
    for told in bounds(plan):
        yield from folded("  ", told, width)
    yield Text()
    for told in trust(plan):
        yield from folded("", told, width, hang=2)
    if not stored.stale:
        yield from folded("", standing(name, stored), width, hang=2)
    for told in plan["notes"]:
        yield from folded("note: ", told, width, style="yellow")
    yield from policy(plan, width)


def made(stored: PlanView) -> str:
    """Which one it is, of when, and about what kind of load."""
    load = stored.document["load"]
    kind = "requests that wait for nobody"
    if load["kind"] == "users":
        kind = f"users who think for {time_text(load['think_time_s'])} between requests"
    return f"plan {stored.number}, {local(stored.at)}, {kind}"


def again(name: str, plan: Plan) -> str:
    """The command that makes this plan anew, as far as what was asked is known from it."""
    asked, load = plan["answer"], plan["load"]
    size = "" if asked is None else f" --{asked['load']['kind']} {asked['load']['size']:g}"
    if asked is None and load["kind"] == "rate":
        size = " --rate 1"
    think = f" --think-time {load['think_time_s']:g}s" if load.get("think_time_s", 1.0) != 1.0 else ""
    failed, ceiling = plan.get("errors", MOST_FAILED), plan.get("cpu_ceiling", CPU_CEILING)
    errors = f" --sla 'errors<{100 * failed:g}%'" if failed != MOST_FAILED else ""
    cpu = f" --cpu-ceiling {100 * ceiling:g}%" if ceiling != CPU_CEILING else ""
    return f"headway plan {name} --sla '{plan['promise']}'{errors}{size}{think}{cpu}"


def answer(plan: Plan) -> Iterator[tuple[str, str]]:
    """What the load asked about needs: lines with their styles; nothing when none was asked about."""
    asked = plan["answer"]
    if asked is None:
        return
    needs, what = load_text(asked["load"]), plan["promise"].split("<")[0]
    if asked["replicas"] is None:
        yield from _no_number(needs, asked, plan)
        return
    count = asked["replicas"]
    parts = [count_text(count, "replica"), f"{asked['cores']:g} core{'' if asked['cores'] == 1 else 's'}"]
    if "memory_bytes" in asked:
        parts.append(f"{asked['memory_bytes'] / 2**30:.3g} GiB")
    if "nodes" in asked:
        parts.append(count_text(asked["nodes"], "node"))
    if "price" in asked:
        parts.append(f"price {money(asked['price'])}")
    verb = "needs" if asked["load"]["kind"] == "users" and round(asked["load"]["size"]) == 1 else "need"
    yield f"{needs} {verb} {', '.join(parts)}", "bold"
    expected = asked["expected"]
    if expected is not None:
        yield f"  expected: {what} {_between(expected)}, {figure(expected['rate_per_s'])} requests/s", ""
    fewer = next((row for row in plan["capacity"] if row["replicas"] == count - 1), None)
    if fewer is not None and fewer["by"] == "cpu" and fewer["size"] < asked["load"]["size"]:
        carried, ceiling = size_text(plan["load"]["kind"], fewer["size"]), percent(plan["cpu_ceiling"])
        verb = "carries" if count == 2 else "carry"
        bound = f"{'its' if count == 2 else 'their'} bound is the cpu ceiling, {ceiling}, not {plan['promise']}"
        yield f"  {count_text(count - 1, 'replica')} {verb} {carried}: {bound}", ""


def _no_number(needs: str, asked: Plan, plan: Plan) -> Iterator[tuple[str, str]]:
    """That nothing helps, or that nobody knows yet: never the same words. Older plans do not tell them apart."""
    finding = asked.get("finding")
    if finding == "unsure":
        doubt = asked["doubt"]
        count = count_text(doubt["replicas"], "replica")
        yield f"{needs}: not sure yet; {count} may keep {plan['promise']}", "bold yellow"
        yield f"  expected: {_between(doubt['expected'])}; {doubt['settle']}", ""
    elif finding == "bound":
        bound = asked["bound"]
        yield f"{needs}: more replicas do not help, something that all of them share is the bound", "bold red"
        carried = size_text(asked["load"]["kind"], bound["size"])
        yield f"  any number carries {carried} within the promise, never more than {bound['rate_per_s']:.3g}/s", ""
    elif finding == "many":
        yield f"{needs}: more than 200 replicas", "bold red"
    else:
        yield f"{needs}: no number of replicas keeps {plan['promise']}", "bold red"


def _between(expected: Plan) -> str:
    low, high = time_text(expected["low_s"]), time_text(expected["high_s"])
    return f"{time_text(expected['value_s'])} (90 %: {low} to {high})"


def columns(plan: Plan) -> list[str]:
    """Headings of :func:`rows`. Plans of older releases tell cores, nodes and money of the needed number alone."""
    more = [name for name in ("cores", "nodes", "price") if any(name in row for row in plan["capacity"])]
    return ["replicas", "carries", "90 % interval", "requests/s", plan["promise"].split("<")[0], *more, "bound by"]


def rows(plan: Plan) -> Iterator[list[str]]:
    """What each number of replicas carries."""
    kind = plan["load"]["kind"]
    more = columns(plan)[5:-1]
    told: dict[str, Callable[[Any], str]] = {"cores": "{:g}".format, "nodes": str, "price": money}
    bound = {
        "cpu": f"cpu ceiling, {percent(plan.get('cpu_ceiling', CPU_CEILING))}",
        "measured": "seen broken",
        "saturation": "saturation",
    }
    for one in plan["capacity"]:
        yield [
            str(one["replicas"]),
            size_text(kind, one["size"]) if one["size"] > 0 else "nothing",
            f"{_bare(kind, one['low'])} to {_bare(kind, one['high'])}" if one["high"] else "-",
            figure(one["rate_per_s"]),
            time_text(one["value_s"]),
            *(told[name](one[name]) if name in one else "-" for name in more),
            bound.get(one["by"], str(plan["promise"])),
        ]


def _bare(kind: str, size: float) -> str:
    """Part of a user is none: what is planned with is rounded down as well."""
    return size_text(kind, math.floor(size) if kind == "users" else size).split()[0]


def _lined(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """With columns as wide as they have to be whatever the terminal's width: a row is one line for ``grep``."""
    widths = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
    right = [head in PLACES for head in table[0]]
    for row in table:
        cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        yield (" " * GAP).join(cells).rstrip()


def bounds(plan: Plan) -> Iterator[str]:
    """What the last column of :func:`rows` means, where it is not the promise."""
    by = {one["by"] for one in plan["capacity"]}
    if "cpu" in by:
        yield (f"cpu ceiling: {_ceiling(plan)}; the interval is what {plan['promise']} alone would allow")
    if "measured" in by:
        yield f"seen broken: what breaks {plan['promise']} was measured below what was foretold, so less is planned"
    if "saturation" in by:
        yield "saturation: arrivals are planned up to 95 % of what replicas can do; closer, queues grow for very long"


def _ceiling(plan: Plan) -> str:
    return f"with more load replicas use over {percent(plan['cpu_ceiling'])} of their cores (--cpu-ceiling)"


def trust(plan: Plan) -> Iterator[str]:
    """How well what is foretold came true."""
    for title, tried in (("tried", plan["held_out"]), *(("settled", one) for one in plan.get("settled", ()))):
        if tried is not None:
            off = f"{abs(tried['error']):.0%}".replace("%", " %")
            way = "right" if off == "0 %" else f"{off} too {'high' if tried['error'] > 0 else 'low'}"
            yield (
                f"{title}: {load_text(tried['load'])} on {count_text(tried['replicas'], 'replica')}, predicted "
                f"{_between(tried['predicted'])}, measured {time_text(tried['measured_s'])}: {way}"
            )
    worst = max(plan["points"], key=lambda point: point.get("failed", 0.0))
    if worst.get("failed"):
        where = f"{load_text(worst['load'])} on {count_text(worst['replicas'], 'replica')}"
        yield f"failed: up to {percent(worst['failed'])} of requests, at {where}"
    model = plan["model"]
    errors = model["left_out_error"]
    usl = "could not be fitted" if errors["usl"] is None else f"is {percent(errors['usl'])} off"
    chosen = "queues" if model["chosen"] == "queue" else "the scalability law"
    yield (
        f"foretold by {chosen}: at points left out, queues are {percent(errors['queue'])} off on average, "
        f"the scalability law {usl}"
    )
    for reached, told in ((True, "saturates at"), (False, "not saturated at")):
        seen = [knee for knee in plan["knees"] if knee["reached"] is reached]
        if seen:
            each = [f"{figure(knee['rate_per_s'])} with {count_text(knee['replicas'], 'replica')}" for knee in seen]
            yield f"{told}, in requests/s: {', '.join(each)}"


def standing(name: str, stored: PlanView) -> str:
    """What the plan stands and falls with."""
    basis = stored.basis
    has = basis.resources.get
    cpu, memory, workers = has("cpu"), has("memory"), has("workers") or 1
    parts = [
        *([] if cpu is None else [f"{cpu:g} core{'' if cpu == 1 else 's'}"]),
        *([] if memory is None else [str(memory)]),
        *([] if workers == 1 else [f"{workers} workers"]),
    ]
    each = f"{' and '.join(parts)} a replica" if parts else "no limit on a replica"
    return (
        f"holds as long as {basis.version} serves, with {each}, and requests are like these; "
        f"headway plan {name} --show tells"
    )


def shortfall(plan: Plan) -> str | None:
    """What is not in a policy: the load asked about, where no number of replicas is known to carry it."""
    answer, policy = plan["answer"], plan["policy"]
    if answer is None or answer["replicas"] is not None or policy is None:
        return None
    most = count_text(policy["maxReplicas"], "replica")
    return f"{load_text(answer['load'])} may be too many for this policy: it goes as far as what {most} can carry"


def _nodes(plan: Plan, width: int | None) -> Iterator[Text]:
    """Older plans have no node pool."""
    pool = plan.get("node_pool")
    if pool is None:
        return
    bounds, each = plan["policy"], pool["replicas_per_node"]
    yield Text(f"node pool: min {pool['min_nodes']}, max {pool['max_nodes']} nodes", "bold")
    spare = "" if not pool["spare"] else f" and {count_text(pool['spare'], 'spare node')}"
    yield from folded(
        "  ",
        f"{each} replica{' fits' if each == 1 else 's fit'} a node ({pool['bound_by']}); minReplicas "
        f"{bounds['minReplicas']} to maxReplicas {bounds['maxReplicas']}, with room for {pool['surge']} more during a "
        f"rollout{spare}",
        width,
    )


def policy(plan: Plan, width: int | None) -> Iterator[Text]:
    """As it may be put into ``headway.yaml``, under ``spec.scaling``."""
    import yaml

    def flow(value: object) -> str:
        return str(yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)).strip()

    if plan["policy"] is None:
        return
    written = following(plan["policy"])
    yield Text()
    yield Text("the policy that follows (spec.scaling; --write-policy puts it in force)", "bold")
    for key, value in written.items():
        if key == "triggers":
            yield Text("  triggers:")
            yield from (Text(f"    - {flow(trigger)}") for trigger in value)
        else:
            yield Text(f"  {key}: {flow(value) if isinstance(value, dict) else value}")
    if "triggers" not in written:
        yield Text("  (a fixed number: there is nothing to scale between)")
    if (short := shortfall(plan)) is not None:
        yield from folded("  ", short, width, style="yellow")
    if plan["max_queue"] is not None:
        told = f"{plan['max_queue']} (what waits longer is late; --write-policy deploys it)"
        yield from folded("spec.server.maxQueue: ", told, width)
    yield from _nodes(plan, width)
