"""The setting of a simulation: traffic and replicas, each from where the options say, and what has to be said of it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headway.cli import plan_kept
from headway.cli import simulate_source as source
from headway.cli.query_log import options_named
from headway.cli.simulate_source import Law
from headway.control.scaling_plan import Size
from headway.control.simulation import Traffic
from headway.domain.errors import Conflict, InvalidInput
from headway.domain.spec import VersionSpec
from headway.planning.fleet import Serving

if TYPE_CHECKING:
    from headway.client import Client

SINCE: Final = "1d"
LAW_SPAN: Final = "7d"
"""How far back the query log is looked at for service times when the traffic comes from a file."""
LAW_RECORDS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Options:
    """As they were given."""

    since: str | None
    until: str | None
    traffic: Path | None
    times: float
    service: str
    start_up: str | None
    max_queue: int | None
    replicas: int | None
    seed: int


@dataclass(frozen=True, slots=True)
class Setting:
    """What is replayed, and notes for whoever reads the figures."""

    traffic: Traffic
    notes: tuple[str, ...]


def read(client: Client, name: str, options: Options) -> Setting:
    """Raises ``InvalidInput`` where something is needed that is known from nowhere."""
    serving = [version for version in client.versions(name) if version.weight]
    if not serving:
        raise Conflict(f"no version of {name} serves", hint=f"headway status {name}")
    version = max(serving, key=lambda one: one.weight or 0)
    spec = VersionSpec.model_validate(version.spec)
    with options_named():
        if options.traffic is None:
            found = source.records(client, name, options.since or SINCE, options.until, source.MOST_RECORDS)
            arrivals = source.of_log(found, name, options.times, options.seed)
        else:
            arrivals = source.of_file(options.traffic, options.since, options.until, options.times, options.seed)
            found = list(client.records(name, since=LAW_SPAN, last=LAW_RECORDS))
    law, servers, notes = _law(client, name, options.service, source.law_of(found), spec.server.workers)
    if len(serving) > 1:
        notes.append(f"{len(serving)} versions share the traffic; it is replayed as if {version.name} had all of it")
    if options.start_up is not None:
        start_s: float | None = source.length(options.start_up, "--start-up")
    else:
        start_s = source.measured_start_s(client, name, version.name)
    if start_s is None:
        raise InvalidInput(
            "how long a replica takes to start was not seen", where="--start-up", hint="for example --start-up 5s"
        )
    millicores = spec.cpu_millicores()
    size = Size(float(spec.server.workers) if millicores is None else millicores / 1000, spec.memory_bytes())
    bound = spec.max_queue if options.max_queue is None else options.max_queue
    replica = Serving(law.work_s, law.rest_s, servers, bound, spec.timeout_s, start_s)
    traffic = Traffic(arrivals.at, arrivals.begin_at, arrivals.until, replica, size, options.replicas, options.seed)
    return Setting(traffic, tuple(notes))


def _law(client: Client, name: str, text: str, logged: Law | None, workers: int) -> tuple[Law, int, list[str]]:
    notes = ["a request that is being worked on is taken to use one core: that is what cpu triggers see"]
    if text == "plan":
        belief, told = _believed(client, name)
        notes += told
        delay = belief.get("delay", 0.0)
        mean_s, servers = belief["mean_s"], belief["servers"]
        shape = source.scaled(logged, mean_s * (1 - delay)) if logged else Law((mean_s * (1 - delay),), (0.0,), False)
        law = Law(shape.work_s, (mean_s * delay,) * len(shape.work_s), False)
        return law, servers, [*notes, f"service times are the capacity plan's: {mean_s * 1000:.3g} ms on average"]
    if text != "log":
        mean_s = source.length(text, "--service")
        if not mean_s > 0:
            raise InvalidInput("a request takes some time", where="--service")
        law = source.scaled(logged, mean_s) if logged else Law((mean_s,), (0.0,), False)
        return law, workers, [*notes, f"service times are given: {text} on average"]
    if logged is None:
        raise InvalidInput(
            "the query log does not say how long a request takes",
            where="--service",
            hint="--service plan, or a mean such as --service 40ms",
        )
    if logged.batched:
        notes.append("requests were predicted together: each is taken to hold the server for its share of the call")
    notes.append(f"service times are the query log's: {statistics.fmean(logged.work_s) * 1000:.3g} ms on average")
    return logged, workers, notes


def _believed(client: Client, name: str) -> tuple[dict[str, Any], list[str]]:
    """The likeliest belief that can be replayed, and what has to be said of it.

    A replay has servers and no locks. A belief of three servers behind a lock that each request needs for nearly all of
    its time is one server under another name: replayed without the lock it would carry three times what there is.
    """
    plan = plan_kept.last(client, name, "--service")
    model = plan.document["model"]
    if model["chosen"] != "queue":
        raise InvalidInput("the plan's law says nothing of single requests", where="--service", hint="--service log")
    free = [one for one in model["beliefs"] if one["servers"] * one.get("serial", 0.0) <= 1 and not one.get("shared")]
    if not free:
        told = "the plan has requests wait for a lock, which is not replayed"
        raise InvalidInput(told, where="--service", hint="--service log")
    belief = dict(max(free, key=lambda one: one["weight"]))
    notes = [] if not plan.stale else [f"the plan is stale: {'; '.join(plan.stale)}"]
    unknown = [part for part in ("serial", "slowdown") if belief.get(part)]
    if unknown:
        notes.append(f"the plan has parts that are not replayed: {', '.join(unknown)}")
    return belief, notes
