"""What ``headway plan`` tells people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text

from headway.cli.times import local
from headway.planning.measured import Point, Users

if TYPE_CHECKING:
    from headway.api.schemas_plans import PlanView


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


def point_line(point: Point, kept: bool | None) -> str:
    """A measured point, while it is going on."""
    load = point.load
    size = size_text("users", load.count) if isinstance(load, Users) else size_text("rate", load.per_s)
    verdict = "" if kept is None else "  kept" if kept else "  broken"
    cpu = "" if point.cpu is None else f"  cpu {point.cpu:.0%}"
    failed = f"  {point.failed_share:.1%} failed" if point.failed_share else ""
    return (
        f"{point.replicas} × {size:<18} {point.rate_per_s:8.1f}/s  {time_text(point.value_s):>9}{cpu}{failed}{verdict}"
    )


def report(name: str, stored: PlanView) -> Iterator[Text]:
    """The plan, a line each."""
    plan = stored.document
    basis = stored.basis
    promise = plan["promise"]
    yield Text(f"{name} {basis.version}: {promise}, plan {stored.number} of {local(stored.at)}", "bold")
    if stored.stale:
        yield Text("stale: " + "; ".join(stored.stale), "bold red")
    yield Text()
    yield from _answer(plan)
    yield Text("replicas   carries              90 % interval         requests/s   " + promise.split("<")[0])
    kind = plan["load"]["kind"]
    for one in plan["capacity"]:
        interval = f"{size_text(kind, one['low']).split()[0]} to {size_text(kind, one['high'])}"
        bound = {"cpu": "  (processor)", "measured": "  (as measured)"}.get(one["by"], "")
        line = f"{one['replicas']:>8}   {size_text(kind, one['size']):<18}   {interval:<22}"
        yield Text(f"{line}{one['rate_per_s']:>8.1f}   {time_text(one['value_s'])}{bound}")
    yield Text()
    yield from _trust(plan)
    for told in plan["notes"]:
        yield Text(f"note: {told}", "yellow")
    yield from _policy(plan)


def _answer(plan: Mapping[str, Any]) -> Iterator[Text]:
    answer = plan["answer"]
    if answer is None:
        return
    needs = load_text(answer["load"])
    if answer["replicas"] is None:
        yield from _no_number(needs, answer, plan)
        yield Text()
        return
    count = answer["replicas"]
    parts = [f"{count} replica{'' if count == 1 else 's'}", f"{answer['cores']:g} cores"]
    if "memory_bytes" in answer:
        parts.append(f"{answer['memory_bytes'] / 2**30:.3g} GiB")
    if "nodes" in answer:
        parts.append(f"{answer['nodes']} node{'' if answer['nodes'] == 1 else 's'}")
    if "price" in answer:
        parts.append(f"price {answer['price']:.2f}")
    yield Text(f"{needs} need {', '.join(parts)}", "bold")
    expected = answer["expected"]
    if expected is not None:
        between = f"{time_text(expected['low_s'])} to {time_text(expected['high_s'])}"
        yield Text(
            f"  expected {time_text(expected['value_s'])} (90 %: {between}), {expected['rate_per_s']:.1f} requests/s"
        )
    yield Text()


def _no_number(needs: str, answer: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[Text]:
    """That nothing helps, or that nobody knows yet: never the same words. Older plans do not tell them apart."""
    finding = answer.get("finding")
    if finding == "unsure":
        doubt = answer["doubt"]
        expected = doubt["expected"]
        between = f"{time_text(expected['low_s'])} to {time_text(expected['high_s'])}"
        count = f"{doubt['replicas']} replica{'' if doubt['replicas'] == 1 else 's'}"
        yield Text(f"{needs}: not sure yet; {count} may keep {plan['promise']}", "bold yellow")
        yield Text(f"  expected {time_text(expected['value_s'])} (90 %: {between}); {doubt['settle']}")
    elif finding == "bound":
        bound = answer["bound"]
        yield Text(f"{needs}: more replicas do not help, something that all of them share is the bound", "bold red")
        carried = size_text(answer["load"]["kind"], bound["size"])
        yield Text(f"  any number carries {carried} within the promise, never more than {bound['rate_per_s']:.3g}/s")
    elif finding == "many":
        yield Text(f"{needs}: more than 200 replicas", "bold red")
    else:
        yield Text(f"{needs}: no number of replicas keeps {plan['promise']}", "bold red")


def _trust(plan: Mapping[str, Any]) -> Iterator[Text]:
    model = plan["model"]
    errors = model["left_out_error"]
    usl = "could not be fitted" if errors["usl"] is None else f"{errors['usl']:.1%}"
    chosen = "queues" if model["chosen"] == "queue" else "the scalability law"
    yield Text(
        f"foretold by {chosen}; mean error at points left out: queues {errors['queue']:.1%}, scalability law {usl}"
    )
    held = plan["held_out"]
    if held is not None:
        told = f"{held['replicas']} × {load_text(held['load'])}"
        predicted = held["predicted"]
        between = f"{time_text(predicted['low_s'])} to {time_text(predicted['high_s'])}"
        yield Text(
            f"tried at {told}, not measured before: predicted {time_text(predicted['value_s'])} ({between}), "
            f"measured {time_text(held['measured_s'])}, error {held['error']:+.0%}"
        )
    for knee in plan["knees"]:
        at = "saturates at" if knee["reached"] else "not saturated at"
        yield Text(
            f"{knee['replicas']} replica{'' if knee['replicas'] == 1 else 's'} {at} {knee['rate_per_s']:.1f} requests/s"
        )


def _nodes(plan: Mapping[str, Any]) -> Iterator[Text]:
    """Older plans have no node pool."""
    pool = plan.get("node_pool")
    if pool is None:
        return
    bounds, each = plan["policy"], pool["replicas_per_node"]
    yield Text(f"  node pool: min {pool['min_nodes']}, max {pool['max_nodes']} nodes", "bold")
    spare = "" if not pool["spare"] else f" and {pool['spare']} spare node{'' if pool['spare'] == 1 else 's'}"
    yield Text(
        f"    {each} replica{' fits' if each == 1 else 's fit'} a node ({pool['bound_by']}); minReplicas "
        f"{bounds['minReplicas']} to maxReplicas {bounds['maxReplicas']}, with room for {pool['surge']} more during a "
        f"rollout{spare}"
    )


def _policy(plan: Mapping[str, Any]) -> Iterator[Text]:
    if plan["policy"] is None:
        return
    yield Text()
    yield Text("the policy that follows (spec.scaling; --write-policy puts it in force):", "bold")
    yield Text(f"  minReplicas {plan['policy']['minReplicas']}, maxReplicas {plan['policy']['maxReplicas']}")
    for trigger in plan["policy"]["triggers"]:
        yield Text(f"  - {json.dumps(trigger)}")
    if plan["max_queue"] is not None:
        yield Text(
            f"  spec.server.maxQueue: {plan['max_queue']} (what waits longer is late; --write-policy deploys it)"
        )
    yield from _nodes(plan)
