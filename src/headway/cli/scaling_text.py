"""A scaling policy, how it stands and what changes in it, as lines for people. Pure.

``width``: of the terminal, to which longer lines are folded; None: of a pipe, where a line is a line.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len
from rich.text import Text

from headway.cli.axes import figure
from headway.cli.latency_text import printable
from headway.cli.output import count_text
from headway.cli.scaling_edit import differences, name_of
from headway.cli.times import length, local
from headway.domain.quantities import seconds

if TYPE_CHECKING:
    from headway.api.schemas_scaling import DecisionSummary, ScalingView, SignalView, VersionScaling

Policy = Mapping[str, Any]
GAP: Final = "  "
HEADS: Final = ("signal", "sees", "target", "wants", "age", "status")
_STYLES: Final = {"no_data": "red", "fallback": "yellow"}


def report(view: ScalingView, now: float, width: int | None) -> list[Text]:
    """The policy, then each version with its signals and its latest decision."""
    lines = list(_policy(view, width))
    for version in view.versions if view.scaling is not None else ():
        lines.append(Text())
        lines.extend(_version(version, view.scaling or {}, now, width))
    return lines


def _policy(view: ScalingView, width: int | None) -> Iterator[Text]:
    policy = view.scaling
    if policy is None:
        yield Text.assemble((view.model, "bold"), f"  {count_text(view.replicas, 'replica')} of each version, fixed")
        return
    yield Text.assemble((view.model, "bold"), f"  {bounds(policy)} of each version")
    for name, told in parts(policy):
        yield from folded(f"  {name:<12}", told, width, style="yellow" if name == "shadow" else "")


def parts(policy: Policy) -> Iterator[tuple[str, str]]:
    """What the policy says beside its bounds, a sentence for each trigger and rule: ``cpu``, ``80% of the cores …``."""
    for trigger in policy.get("triggers", ()):
        yield name_of(trigger), described(trigger)
    if policy.get("minReplicas") == 0:
        yield "idle", f"the last replica goes {policy.get('cooldownPeriod')} after it was last needed"
    if (fallback := policy.get("fallback")) is not None:
        yield "fallback", _fallback(fallback)
    for name, direction in (policy.get("behavior") or {}).items():
        if told := _direction(direction):
            yield _words(name), told
    if policy.get("shadow"):
        yield "shadow", "decisions are recorded and not carried out"


def bounds(policy: Policy) -> str:
    """``1 to 12 replicas``."""
    return f"{policy.get('minReplicas')} to {count_text(int(policy.get('maxReplicas') or 0), 'replica')}"


def described(trigger: Policy) -> str:
    """One trigger in a sentence; of a kind that this release does not know, its fields."""
    kind, get = trigger.get("type"), trigger.get
    try:
        match kind:
            case "cpu" | "memory":
                what = "the cores that" if kind == "cpu" else "the memory limit that"
                return f"{get('target')} of {what} a replica has, over {get('window')}"
            case "concurrency" | "rps":
                what = "requests in flight" if kind == "concurrency" else "requests a second"
                panic = get("panicWindow")
                burst = "" if panic == "0s" else f"; panic at {get('panicThreshold'):g} times as many over {panic}"
                return f"{get('target'):g} {what} per replica, over {get('window')}{burst}"
            case "latency":
                return _latency(trigger)
            case "prometheus":
                each = " per replica" if get("metricType") == "AverageValue" else ""
                return f"{get('threshold'):g}{each} of {get('query')} at {get('serverAddress')}"
            case "rabbitmq":
                what = "messages" if get("mode") == "QueueLength" else "messages a second"
                return f"{get('value'):g} {what} per replica in queue {get('queueName')}"
            case "redis":
                library = f" ({get('library')})" if get("library") else ""
                return f"{get('listLength'):g} entries per replica in {get('listName')}{library}"
            case "postgresql":
                return f"{get('targetQueryValue'):g} per replica of {get('query')}"
            case "jobs":
                whose = f" of {get('model')}" if get("model") else ""
                return f"{get('value'):g} jobs{whose}, queued and running, per replica"
            case "cron":
                wished = count_text(int(get("desiredReplicas", 0)), "replica")
                return f"{wished} from '{get('start')}' to '{get('end')}', {get('timezone')}"
            case "python":
                return f"{get('entrypoint')} of the bundle, every {get('every')}"
    except (TypeError, ValueError):
        pass
    return ", ".join(f"{key} {value}" for key, value in trigger.items() if key != "name" and value is not None)


def changes(old: Policy | None, new: Policy | None) -> list[str]:
    """What is another one in ``new``, a line each; a trigger that comes or goes is one line."""
    before, after = _triggers(old), _triggers(new)
    lines = [f"{name}: gone" for name in before if name not in after]
    lines += [f"{name}: new, {described(trigger)}" for name, trigger in after.items() if name not in before]
    for one in differences(old, new):
        name = one.path.split(".")[0]
        if (name in before) == (name in after):
            lines.append(f"{one.path}: {_said(one.old)} -> {_said(one.new)}")
    return lines


def changed(before: ScalingView, after: Policy | None, replicas: int) -> Iterator[str]:
    """What is another policy now, under the name of the model."""
    name, old = before.model, before.scaling
    if after is None:
        same = old is None and before.replicas == replicas
        yield f"{name}: {'no changes: ' if same else ''}{count_text(replicas, 'replica')} of each version, fixed"
    elif old is None:
        yield f"{name}: {bounds(after)} of each version (was: {before.replicas}, fixed)"
        yield from (f"  {part:<12}{told}" for part, told in parts(after))
    else:
        lines = changes(old, after)
        yield f"{name}: {bounds(after)} of each version" + ("" if lines else ", no changes")
        yield from (f"  {line}" for line in lines)


def decided(decision: DecisionSummary, now: float) -> str:
    """``2026-05-01 14:00:00 CEST, 12 s ago: 2 -> 4, settled by latency``."""
    shadow = " (shadow: not carried out)" if decision.shadow and decision.desired != decision.current else ""
    return (
        f"{local(decision.at)}, {length(now - decision.at)} ago: "
        f"{moved(decision.current, decision.desired)}, settled by {printable(decision.binding)}{shadow}"
    )


def moved(current: int, desired: int) -> str:
    """``2 -> 4``; ``stays 2`` for no change."""
    return f"{current} -> {desired}" if current != desired else f"stays {current}"


def counted(version: VersionScaling) -> str:
    """``2 replicas wished, 1 ready``; at zero, that."""
    if version.wished == 0 and version.ready == 0:
        return "scaled to zero"
    return f"{count_text(version.wished, 'replica')} wished, {version.ready} ready"


def quantity(value: float | None, kind: str) -> str:
    """A trigger's value or target in its unit."""
    if value is None:
        return "-"
    if kind in ("cpu", "memory"):
        return f"{figure(value * 100)} %"
    if kind == "latency":
        return f"{figure(value * 1000)} ms"
    if kind == "rps":
        return f"{figure(value)}/s"
    return figure(value)


def reason(summary: str, binding: str) -> str:
    """A decision's sentence without what stands beside it: from how many to how many, and what settled it."""
    text = printable(summary.partition(": ")[2] or summary).removesuffix(".")
    if not text.startswith(binding):
        return text
    rest = text.removeprefix(binding).lstrip(", ")
    return rest[1:-1] if rest.startswith("(") and rest.endswith(")") else rest or text


def folded(prefix: str, text: str, width: int | None, *, hang: int = 0, style: str = "") -> Iterator[Text]:
    """``text`` behind ``prefix``; what the terminal is too narrow for goes on below, ``hang`` columns further in."""
    ahead = cell_len(prefix)
    if width is None or ahead + cell_len(text) <= width:
        yield Text(f"{prefix}{text}".rstrip(), style)
        return
    below = " " * min(ahead + hang, width // 2)
    lines = textwrap.wrap(
        text, width, initial_indent=" " * min(ahead, width - 20), subsequent_indent=below, break_on_hyphens=False
    )
    yield Text(f"{prefix}{lines[0].lstrip()}", style)
    yield from (Text(line, style) for line in lines[1:])


def _version(version: VersionScaling, policy: Policy, now: float, width: int | None) -> Iterator[Text]:
    share = "" if version.weight is None else f"  {version.weight} %"
    yield Text.assemble((f"{version.version}{share}", "bold"), f"  {counted(version)}")
    if version.decision is None:
        yield Text("  nothing decided yet", "dim")
        return
    kinds = {name_of(trigger): str(trigger.get("type")) for trigger in policy.get("triggers", ())}
    yield from _signals(version.signals, kinds, width)
    yield from folded("  decided  ", decided(version.decision, now), width)
    yield from folded("  because  ", reason(version.decision.summary, version.decision.binding), width)


def _signals(signals: Sequence[SignalView], kinds: Mapping[str, str], width: int | None) -> Iterator[Text]:
    rows = [_row(signal, kinds.get(signal.trigger, "")) for signal in signals]
    widths = [max(cell_len(row[place]) for row in [HEADS, *rows]) for place in range(len(HEADS))]

    def columns(row: Sequence[str]) -> str:
        return GAP.join(cell + " " * (wide - cell_len(cell)) for cell, wide in zip(row, widths, strict=True))

    yield Text(f"  {columns(HEADS)}".rstrip(), "bold")
    for signal, row in zip(signals, rows, strict=True):
        yield from folded(f"  {columns(row)}{GAP}", printable(signal.note), width, style=_STYLES.get(signal.status, ""))


def _row(signal: SignalView, kind: str) -> tuple[str, ...]:
    return (
        signal.trigger,
        quantity(signal.value, kind),
        quantity(signal.target, kind),
        "-" if signal.desired is None else str(signal.desired),
        "-" if signal.age_s is None else length(signal.age_s),
        printable(signal.status.replace("_", " ")),
    )


def _latency(trigger: Policy) -> str:
    window, span = str(trigger.get("window")), trigger.get("span")
    where = f"a window of {window}"
    if span is not None and seconds(str(span)) > seconds(window):
        count = round(seconds(str(span)) / seconds(window))
        pick = "the newest" if trigger.get("pick") == "latest" else "the slowest"
        where = f"{pick} of {count} windows of {window}"
    return (
        f"{trigger.get('quantile')} above {trigger.get('threshold')} in {where}: {trigger.get('step')} more, "
        f"then {trigger.get('cooldown')} of cooldown; below {trigger.get('downThreshold')} of it for "
        f"{trigger.get('downAfter')}: {trigger.get('step')} fewer"
    )


def _fallback(fallback: Policy) -> str:
    replicas = count_text(int(fallback.get("replicas") or 0), "replica")
    how = "" if fallback.get("behavior") == "static" else f" ({fallback.get('behavior')})"
    return f"{replicas}{how} after {fallback.get('failureThreshold')} failures of an outside signal in a row"


def _direction(direction: Policy) -> str:
    told = []
    if (window := direction.get("stabilizationWindowSeconds")) is not None:
        told.append(f"stabilization window {window} s")
    if direction.get("selectPolicy") == "Disabled":
        told.append("never")
    elif rules := direction.get("policies"):
        joined = " or ".join(_rule(rule) for rule in rules)
        least = ", whichever is less" if direction.get("selectPolicy") == "Min" and len(rules) > 1 else ""
        told.append(f"at most {joined}{least}")
    if (tolerance := direction.get("tolerance")) not in (None, 0.1):
        told.append(f"tolerance {tolerance:g}")
    return "; ".join(told)


def _rule(rule: Policy) -> str:
    amount = f"{rule.get('value')} %" if rule.get("type") == "Percent" else str(rule.get("value"))
    return f"{amount} in {rule.get('periodSeconds')} s"


def _words(name: str) -> str:
    return {"scaleUp": "scale up", "scaleDown": "scale down"}.get(name, name)


def _triggers(policy: Policy | None) -> dict[str, Policy]:
    return {name_of(trigger): trigger for trigger in (policy or {}).get("triggers", ())}


def _said(value: Any) -> str:
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
