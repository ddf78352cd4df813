"""``headway kube loadtest``: the same load test, sent from pods of a cluster."""

from __future__ import annotations

import json
import os
import secrets
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from headway.cli import load_options as options
from headway.cli.exit_codes import INTERRUPTED
from headway.cli.kube_objects import Context, emit_objects
from headway.cli.load_belongings import refuse_idle, typed
from headway.cli.output import Format, OutputOption, err, is_json, note
from headway.cli.place import default_context, default_namespace, nowhere
from headway.domain.errors import ClusterFailed, InvalidInput, Unsupported
from headway.domain.load_shapes import Arrivals, Loop
from headway.domain.names import check_model_name, check_version_name

if TYPE_CHECKING:
    from headway.cluster.load_objects import LoadRun
    from headway.control.load_orders import LoadOrder

POD_ADDRESS: Final = "pod"
SPARE_S: Final = 120.0
"""For a master to start and to report."""


def register(app: typer.Typer) -> None:
    """Add this module's command to ``headway kube``."""
    app.command()(loadtest)


@nowhere
def loadtest(
    asked: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")],
    image: Annotated[str, typer.Option(metavar="IMAGE", help="Holds headway; with its extra loadtest for users.")],
    users: options.Users = None,
    rate: options.Rate = None,
    stages: options.Stages = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Open loop: arrivals and sizes of a CSV, as of headway log -o csv.", dir_okay=False
        ),
    ] = None,
    speed: Annotated[float, typer.Option(metavar="TIMES", help="With --replay: so many times as fast.")] = 1.0,
    duration: options.Duration = "1m",
    spawn_rate: options.SpawnRate = None,
    think_time: options.ThinkTime = "1s",
    arrivals: options.ArrivalKind = Arrivals.POISSON,
    seed: options.Seed = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Rows to send, .csv, .json or .jsonl; default: rows that fit what the model says of its inputs.",
            dir_okay=False,
        ),
    ] = None,
    rows: options.Rows = 1,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Of the model, as pods reach it. Default: its route, or --version's Service."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Load this version alone, through its Service.")
    ] = None,
    token_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable with a token to show to the model.")
    ] = None,
    locustfile: options.Locustfile = None,
    workers: Annotated[
        int, typer.Option(metavar="COUNT", min=1, max=options.MOST_WORKERS, help="Send from so many pods.")
    ] = 1,
    worker_cpu: Annotated[str, typer.Option(metavar="QUANTITY", help="What a worker's pod asks for.")] = "1",
    worker_memory: Annotated[str, typer.Option(metavar="QUANTITY", help="The same; also its limit.")] = "512Mi",
    master_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST",
            help="Where workers find the master: 'pod' for its pod's address. Default: its Service's DNS name.",
        ),
    ] = None,
    start_timeout: Annotated[str, typer.Option(metavar="LENGTH", help="How long pods may take to start.")] = "5m",
    sla: options.Sla = None,
    stop: options.Stop = False,
    timeout: options.Timeout = "30s",
    report: options.ReportFile = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "-n",
            "--namespace",
            metavar="NAMESPACE",
            help="Of the model. Default: HEADWAY_NAMESPACE, with a context of Headway's; else the context's own.",
        ),
    ] = None,
    context: Context = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the objects; they go an hour after the end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the objects and touch nothing.")] = False,
    output: OutputOption = Format.TEXT,
) -> int:
    """Send a model a load from pods of its cluster and report how it bore it.

    A Job counts and judges, another has the workers that send. Options, report and exit codes are those of headway
    loadtest. Ctrl-C ends the load and reports what there is; the objects go when the report is here.
    """
    from headway.cli import load_run, load_source
    from headway.cli.load_replay import replayed_file
    from headway.control.load_orders import LoadOrder

    check_model_name(name)
    if namespace is None and context in (None, default_context()):
        namespace = default_namespace()
    if version is not None:
        check_version_name(version, where="--version")
    if url is not None and version is not None:
        raise InvalidInput("--url and --version exclude each other", where="--version")
    promised = load_source.promised(sla, stop=stop)
    chosen = load_source.Chosen(users, rate, stages, replay)
    # How many rows a recorded request had only the file can tell, if it does.
    refuse_idle(typed(asked) - ({"rows"} if replay else set()), chosen.load, locustfile=locustfile is not None)
    shape = chosen.shape(duration, spawn_rate, think_time, arrivals, seed)
    sizes: tuple[int, ...] = ()
    if shape is None:
        assert replay is not None  # whose shape the file has
        recorded = replayed_file(replay, speed, rows)
        shape, sizes = recorded.shape, recorded.sizes
    if shape.loop is Loop.OPEN and locustfile is not None:
        raise InvalidInput("--locustfile belongs to users, and this load is a rate", where="--locustfile")
    if shape.scales and dry_run:
        raise Unsupported(
            "objects alone do not change how a model is scaled: this command does, while it runs",
            where=str(stages),
            hint="leave replicas and scaling out, or --dry-run",
        )
    patience_s = load_source.length(start_timeout, "--start-timeout")
    timeout_s = load_source.length(timeout, "--timeout")
    most = load_source.MOST_STAGES_FILE
    order = LoadOrder(
        model=name,
        url="",
        shape=shape.unscaled(),
        data=b"" if data is None else json.dumps(load_source.file_rows(data), separators=(",", ":")).encode(),
        rows=rows,
        sizes=list(sizes),
        promises=list(promised),
        stop_at_breach=stop,
        timeout_s=timeout_s,
        locustfile=None if locustfile is None else load_source.read(locustfile, most, "--locustfile"),
        workers=workers,
        patience_s=patience_s,
    )
    token = secrets.token_hex(16)
    target_token = _from_env(token_env)
    run_name = f"load-{name}-{secrets.token_hex(3)}"
    if version is None and url is None and dry_run:
        raise InvalidInput(
            "where a route answers only the cluster knows", where="--dry-run", hint="give --url or --version"
        )
    if dry_run and master_address == POD_ADDRESS:
        raise InvalidInput("a pod's address only the cluster knows", where="--master-address")

    def run_of(place: str, routed: str | None) -> LoadRun:
        from dataclasses import replace

        from headway.cluster.load_objects import LoadRun

        target = url or routed or f"http://{name}-{version}.{place}.svc"
        return LoadRun(
            name=run_name,
            model=name,
            namespace=place,
            image=image,
            workers=workers,
            order=_packed(replace(order, url=target.rstrip("/"))),
            token=token,
            target_token=target_token,
            patience_s=ceil(patience_s),
            lasts_s=ceil(2 * patience_s + shape.duration_s + timeout_s + SPARE_S),
            cpu=worker_cpu,
            memory=worker_memory,
            master_host=None if master_address == POD_ADDRESS else master_address,
        )

    if dry_run:
        from headway.cluster.load_objects import load_objects

        emit_objects(load_objects(run_of(namespace or "default", None)))
        return 0
    page = load_run.page_of(report, name)
    from headway.bootstrap_load_cluster import run_on_cluster
    from headway.cluster.names import LOAN_ANNOTATION

    with load_run.LoadProgress(shape.duration_s) as progress:
        found, unreturned = run_on_cluster(
            context or default_context(),
            namespace,
            run_of,
            shape,
            routed=None if url or version else name,
            patience_s=patience_s,
            by_pod_address=master_address == POD_ADDRESS,
            keep=keep,
            told=lambda text: None if is_json() else err.print(escape(text)),
            progress=progress.update,
        )
    if found is None:
        note("stopped before there was anything to report")
    beside = None if found is None else load_run.write(found, page)
    if unreturned is not None:
        raise ClusterFailed(
            f"{name} is still scaled as the load test needed it: {unreturned.message}",
            hint=f"the annotation {LOAN_ANNOTATION} of its ModelDeployment says how it was scaled before",
            details={} if beside is None else {"report": str(page)},
        )
    return INTERRUPTED if found is None or beside is None else load_run.told(found, page, beside)


def _from_env(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not (found := os.environ.get(variable)):
        raise InvalidInput(f"the environment has no {variable}", where="--token-env")
    return found


def _packed(order: LoadOrder) -> bytes:
    from headway.cluster.load_objects import MOST_ORDER_BYTES

    packed = order.packed()
    if len(packed) > MOST_ORDER_BYTES:
        raise InvalidInput(
            f"what is to be sent takes {len(packed) / 2**20:.1f} MiB packed, and a ConfigMap has room for "
            f"{MOST_ORDER_BYTES / 2**20:.1f}",
            where="--replay" if order.sizes else "--data" if order.data else "--locustfile",
            hint="replay a shorter time" if order.sizes else "give fewer rows: they are sent again and again in turn",
        )
    return packed
