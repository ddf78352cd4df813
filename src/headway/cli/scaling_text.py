"""A scaling policy, how it stands and what changes in it, as lines for people. Pure.

``width``: of the terminal, where longer lines are cut; None: of a pipe, which gets all of them.
"""

from __future__ import annotations

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
HEADS: Final = ("signal", "sees", "target", "wants", "age", "status", "")
_STYLES: Final = {"ok": "green", "no_data": "red", "fallback": "yellow"}


def report(view: ScalingView, now: float, width: int | None) -> list[Text]:
    """The policy, then each version with its signals and its latest decision."""
    lines = list(policy_lines(view))
    for version in view.versions if view.scaling is not None else ():
        lines.append(Text())
        lines.extend(_version(version, view.scaling or {}, now))
    return cut(lines, width)


def policy_lines(view: ScalingView) -> Iterator[Text]:
    """What triggers are told to do; a line each."""
    policy = view.scaling
    if policy is None:
        yield Text.assemble((view.model, "bold"), f"  {count_text(view.replicas, 'replica')} of each version, fixed")
        return
    yield Text.assemble((view.model, "bold"), f"  {bounds(policy)} of each version")
    yield from (Text(f"  {line}") for line in trigger_lines(policy))
    if policy.get("minReplicas") == 0:
        yield Text(f"  {'idle':<12}the last replica goes {policy.get('cooldownPeriod')} after it was last needed")
    fallback = policy.get("fallback")
    if fallback is not None:
        yield Text(f"  {'fallback':<12}{_fallback(fallback)}")
    for name, direction in (policy.get("behavior") or {}).items():
        if told := _direction(direction):
            yield Text(f"  {_words(name):<12}{told}")
    if policy.get("shadow"):
        yield Text(f"  {'shadow':<12}decisions are recorded and not carried out", "yellow")


def trigger_lines(policy: Policy) -> list[str]:
    """``cpu         80% of what a replica asks for, over 15s``."""
    return [f"{name_of(trigger):<12}{described(trigger)}" for trigger in policy.get("triggers", ())]


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


def cut(lines: Sequence[Text], width: int | None) -> list[Text]:
    """Lines that fit."""
    for line in lines if width is not None else ():
        line.truncate(width or 0, overflow="ellipsis")
    return list(lines)


def _version(version: VersionScaling, policy: Policy, now: float) -> Iterator[Text]:
    share = "" if version.weight is None else f"  {version.weight} %"
    yield Text.assemble((f"{version.version}{share}", "bold"), f"  {counted(version)}")
    if version.decision is None:
        yield Text("  nothing decided yet", "dim")
        return
    kinds = {name_of(trigger): str(trigger.get("type")) for trigger in policy.get("triggers", ())}
    yield from _signals(version.signals, kinds)
    yield Text(f"  decided {decided(version.decision, now)}")
    if version.decision.summary:
        yield Text(f"  {printable(version.decision.summary)}", "dim")


def _signals(signals: Sequence[SignalView], kinds: Mapping[str, str]) -> Iterator[Text]:
    rows = [HEADS, *(_row(signal, kinds.get(signal.trigger, "")) for signal in signals)]
    widths = [max(cell_len(row[place]) for row in rows) for place in range(len(HEADS))]
    for number, row in enumerate(rows):
        text = GAP.join(cell + " " * (wide - cell_len(cell)) for cell, wide in zip(row, widths, strict=True))
        style = "bold" if number == 0 else _STYLES.get(signals[number - 1].status, "") if number else ""
        yield Text(f"  {text}".rstrip(), "" if style == "green" else style)


def _row(signal: SignalView, kind: str) -> tuple[str, ...]:
    return (
        signal.trigger,
        quantity(signal.value, kind),
        quantity(signal.target, kind),
        "-" if signal.desired is None else str(signal.desired),
        "-" if signal.age_s is None else length(signal.age_s),
        signal.status.replace("_", " "),
        printable(signal.note),
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
