"""Commands that look at models and call them: list, status, versions, predict, logs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from headway.cli.completion import model_names
from headway.cli.output import (
    Format,
    OutputOption,
    count_text,
    emit_json,
    is_json,
    log_lines,
    moment,
    out,
    print_line,
    range_text,
    say,
    size,
    split_text,
    table,
)
from headway.cli.place import anywhere, chosen
from headway.domain.errors import InvalidInput
from headway.domain.names import check_model_name, check_version_name

if TYPE_CHECKING:
    from headway.api.schemas import (
        FailureView,
        JobsView,
        ModelSummary,
        ModelView,
        ReplicaView,
        SourceView,
        TrialView,
    )

PANEL = "Look and call"
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=model_names)]
MAX_BODY_FILE = 1 << 30
_COLOURS = {"ready": "green", "degraded": "yellow", "deploying": "yellow", "failed": "red", "deleting": "dim"}


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(name="list", rich_help_panel=PANEL)(list_models)
    for command in (status, versions, predict, logs):
        app.command(rich_help_panel=PANEL)(command)


@anywhere
def list_models(output: OutputOption = Format.TEXT) -> None:
    """List deployed models."""
    if (place := chosen()) is not None:
        from headway.cli import cluster

        found: Sequence[ModelSummary] = cluster.summaries(place)
    else:
        from headway.client import Client

        with Client() as client:
            found = client.list()
    if is_json():
        emit_json(found)
        return
    rows = [(m.name, _state(m, _summed(m)), split_text(m.live), _ready(m), m.url) for m in found]
    table(("model", "state", "traffic", "ready", "url"), rows, empty="no models yet: headway deploy DIR")


def _state(model: ModelSummary | ModelView, wished: int) -> str:
    """A model that has scaled itself to zero is as it should be, but one may want to know."""
    at_zero = model.scaling is not None and wished == 0 and model.ready_replicas == 0
    return "at zero" if at_zero and model.state == "ready" else model.state


def _summed(model: ModelSummary) -> int:
    return model.replicas * max(len(model.live), 1) if model.wished is None else model.wished


def _wished(view: ModelView) -> int:
    counts = {version.name: version.wished for version in view.versions}
    return sum(view.replicas if (count := counts.get(arm.version)) is None else count for arm in view.live)


def _ready(model: ModelSummary) -> str:
    """``2/2``; where triggers scale it ``2/2 (1-12)``, the bounds of each version."""
    bounds = "" if model.scaling is None else f" ({range_text(model.scaling)})"
    return f"{model.ready_replicas}/{_summed(model)}{bounds}"


@anywhere
def status(name: Name, output: OutputOption = Format.TEXT) -> None:
    """Show a model: its state, traffic, versions and replicas."""
    view = _view(name)
    if is_json():
        emit_json(view)
    else:
        _print_status(view)


def _view(name: str) -> ModelView:
    """The model, from where the command is to look."""
    if (place := chosen()) is not None:
        from headway.cli import cluster

        return cluster.view(place, check_model_name(name))
    from headway.client import Client

    with Client() as client:
        return client.get(check_model_name(name))


def _print_status(view: ModelView) -> None:
    colour, state = _COLOURS.get(view.state, "white"), _state(view, _wished(view))
    message = view.message if state == view.state else ""
    say(f"[bold]{view.name}[/]  [{colour}]{state}[/]  {escape(message)}".rstrip())
    say(f"  traffic   {split_text(view.live)}")
    if view.target != view.live:
        say(f"  wished    {split_text(view.target)}")
    if view.trial is not None:
        say(f"  trial     {escape(trial_text(view.trial))}")
    if view.shadow is not None:
        say(f"  shadow    {view.shadow.version} gets a copy of {view.shadow.percent} %")
    if view.sticky is not None:
        say(f"  sticky    by {view.sticky.kind} {escape(view.sticky.name)}")
    say(f"  replicas  {_replicas(view)}")
    if view.jobs is not None and _has_jobs(view):
        say(f"  jobs      {_jobs(view.jobs)}")
    say(f"  url       {view.urls.production or '-'}")
    for version, url in view.urls.pinned.items():
        say(f"            {url}  (always {version})")
    on_cluster = _print_conditions(view)
    out.print()
    _print_versions(view)
    out.print()
    rows = _rows(view.replica_list)
    table(("replica", "phase", "restarts", "pid", "memory", "started", "reason"), rows, empty="no replicas")
    if view.worker_list:
        out.print()
        table(("worker", "phase", "restarts", "pid", "memory", "started", "reason"), _rows(view.worker_list), empty="")
    newest = view.versions[-1:]
    failures = [(v.name, v.failure) for v in newest if v.state == "failed"]
    for name, failure in failures + [(r.name, r.failure) for r in (*view.replica_list, *view.worker_list)]:
        if failure is not None:
            _print_failure(name, failure, "failed")
    for one in view.versions if on_cluster else ():
        if one.failure is not None:
            _print_failure(one.name, one.failure, "does not come up")


def _print_conditions(view: ModelView) -> bool:
    """What the operator says of a model on a cluster. Whether it is on one."""
    found = getattr(view, "conditions", None)
    if found is None:
        return False
    out.print()
    rows = [(c.type, c.status, c.reason, moment(c.since), c.message.partition("\n")[0]) for c in found]
    table(("condition", "status", "reason", "since", "message"), rows, empty="no conditions: no operator has seen it")
    return True


def trial_text(trial: TrialView) -> str:
    """``v2 beside v1 at 10 %, running since 2026-…; steps 5, 10, 25, 50, 100 %``."""
    head = f"{trial.version} beside {trial.base}"
    if trial.ended_at is not None:
        return f"{head} {trial.state.replace('_', ' ')} {moment(trial.ended_at)}: {trial.reason}"
    steps = ", ".join(map(str, trial.steps))
    since = "its traffic is on the way" if trial.since is None else f"since {moment(trial.since)}"
    why = f": {trial.reason}" if trial.reason else ""
    return f"{head} at {trial.share} %, {trial.state}{why}, {since}; steps {steps} %"


def _rows(replicas: Sequence[ReplicaView]) -> list[tuple[object, ...]]:
    return [
        (r.name, r.phase, r.restarts, r.pid or "-", size(r.rss_bytes), moment(r.started_at), r.reason or "")
        for r in replicas
    ]


def _has_jobs(view: ModelView) -> bool:
    jobs = view.jobs
    counted = jobs is not None and (jobs.queued or jobs.delayed or jobs.running or jobs.workers)
    return bool(counted or view.worker_list)


def _jobs(jobs: JobsView) -> str:
    """``12 queued, 3 running; 3 workers, 0 to 8 of each version``."""
    told = (
        [f"{jobs.queued} queued"]
        + ([f"{jobs.delayed} for later"] if jobs.delayed else [])
        + [f"{jobs.running} running"]
    )
    workers = count_text(jobs.workers, "worker")
    return f"{', '.join(told)}; {workers} wished, {jobs.min_workers} to {jobs.max_workers} of each version"


def _replicas(view: ModelView) -> str:
    bounds = view.scaling
    if bounds is None:
        return f"{view.ready_replicas} ready, {view.replicas} wished of each version in the split"
    if chosen() is not None:
        told = f"{view.ready_replicas} ready, {_wished(view)} wished; scaled between {bounds.min_replicas} and "
        return f"{told}{bounds.max_replicas} of each version"
    if _state(view, _wished(view)) == "at zero":
        return f"scaled to zero: the next request starts one (headway explain {view.name} --changed tells why)"
    told = f"{view.ready_replicas} ready, {_wished(view)} wished; scaled between {bounds.min_replicas} and "
    shadow = " in shadow mode" if bounds.shadow else ""
    return f"{told}{bounds.max_replicas} of each version{shadow} (headway autoscale {view.name})"


def _print_failure(name: str, failure: FailureView, how: str) -> None:
    where = f" ({failure.where})" if failure.where else ""
    out.print()
    say(f"[bold red]{name} {how}:[/] {escape(failure.message + where)}")
    tail = log_lines(failure.log_tail)
    if tail:
        say("[bold]last lines of its log:[/]")
    for line in tail:
        say(f"  [dim]{escape(line)}[/]")
    if failure.hint:
        say(f"[bold]hint:[/] {escape(failure.hint)}")


def _print_versions(view: ModelView) -> None:
    fetched = any(v.source is not None for v in view.versions)
    rows = [
        (
            v.name,
            v.state,
            _share(v.weight),
            _of_version(view, v.name, v.wished),
            moment(v.created_at),
            v.digest[:12],
            *([_source(v.source)] if fetched else []),
            _failure(v.failure),
        )
        for v in view.versions
    ]
    columns = ("version", "state", "traffic", "ready", "created", "digest", *(["source"] if fetched else []), "failure")
    table(columns, rows, empty="no versions")


def _source(source: SourceView | None) -> str:
    return "-" if source is None else source.resolved or source.uri


def _of_version(view: ModelView, version: str, wished: int | None) -> str:
    ready = sum(r.ready for r in view.replica_list if r.version == version)
    return f"{ready}/{wished}" if wished is not None else str(ready) if ready else "-"


def _share(weight: int | None) -> str:
    return "-" if weight is None else f"{weight} %"


def _failure(failure: object) -> str:
    message = str(getattr(failure, "message", "") or "")
    return message if len(message) <= 80 else message[:77] + "..."


@anywhere
def versions(name: Name, output: OutputOption = Format.TEXT) -> None:
    """List a model's versions."""
    view = _view(name)
    if is_json():
        emit_json(view.versions)
    else:
        _print_versions(view)


def predict(
    name: Name,
    data: Annotated[
        str, typer.Option("-d", "--data", metavar="JSON", help="The request's JSON, @FILE, or @- for standard input.")
    ],
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Call this version, whatever the split.")
    ] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Send a request through the gateway and print the answer.

    The gateway chooses the version by the traffic split, as for every caller; --version pins one.
    """
    from headway.client import Client

    check_model_name(name)
    if version is not None:
        check_version_name(version, where="--version")
    with Client() as client:
        answer = client.predict(name, body_of(data), version=version)
    sys.stdout.write(answer.decode("utf-8", "replace").rstrip("\n") + "\n")


def body_of(data: str, where: str = "-d") -> bytes:
    """The bytes of ``-d``: itself, a file's, or standard input's. ``InvalidInput`` when the file cannot be read."""
    if not data.startswith("@"):
        # As the shell gave it, also where that is no UTF-8.
        return os.fsencode(data)
    if data == "@-":
        if sys.stdin is None:
            raise InvalidInput("standard input is closed", where=where)
        return sys.stdin.buffer.read()
    path = Path(data[1:])
    try:
        if path.stat().st_size > MAX_BODY_FILE:
            raise InvalidInput(f"{path} is larger than 1 GiB", where=where)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidInput(f"cannot read {path}: {why}", where=where) from None


@anywhere
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines until Ctrl-C.")] = False,
    tail: Annotated[
        int | None, typer.Option(metavar="LINES", min=0, help="Only so many last lines of each replica.")
    ] = None,
    replica: Annotated[
        str | None, typer.Option(metavar="REPLICA", help="Only this replica; also one that has ended.")
    ] = None,
    version: Annotated[str | None, typer.Option(metavar="VERSION", help="Only replicas of this version.")] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Show what a model's replicas printed."""
    check_model_name(name)
    if version is not None:
        check_version_name(version, where="--version")
    if (place := chosen()) is not None:
        from headway.cli import cluster

        cluster.print_logs(place, name, replica=replica, version=version, tail=tail, follow=follow)
        return
    from headway.client import Client

    with Client() as client:
        for line in client.logs(name, replica=replica, version=version, tail=tail, follow=follow):
            print_line(line)
