"""``headway plan``: what hardware a promise needs, measured."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from headway.cli import plan_flags, plan_kept, plan_nodes
from headway.cli.completion import model_names
from headway.cli.exit_codes import INTERRUPTED
from headway.cli.output import Format, OutputOption, emit_json, is_json, note, out, say
from headway.cli.plan_policy import put_in_force
from headway.domain.errors import Conflict, InvalidInput
from headway.domain.names import check_model_name
from headway.domain.promises import ERRORS, Promise, parse_all
from headway.domain.quantities import share

if TYPE_CHECKING:
    from headway.api.schemas_plans import PlanView
    from headway.client import Client
    from headway.planning.nodes import Node
    from headway.planning.plan import Question
    from headway.ports.load_generator import LoadRequest

PANEL = "Traffic and replicas"
MOST_TRIED: Final = 16
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=model_names)]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(rich_help_panel=PANEL)(plan)


def plan(
    context: typer.Context,
    name: Name,
    sla: Annotated[
        list[str] | None,
        typer.Option(metavar="PROMISE", help="'p95<1s', in quotes; 'errors<1%' beside it, default 0.1 %."),
    ] = None,
    users: Annotated[
        int | None, typer.Option(metavar="COUNT", min=1, max=100_000, help="What do so many users need?")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(metavar="RATE", min=0.001, max=100_000, help="What do so many requests a second need?"),
    ] = None,
    think_time: Annotated[
        str, typer.Option(metavar="LENGTH", help="Mean time that users think between answer and next request.")
    ] = "1s",
    max_replicas: Annotated[
        int, typer.Option(metavar="COUNT", min=1, max=MOST_TRIED, help="Start at most so many here, to measure.")
    ] = 3,
    runs: Annotated[int, typer.Option(metavar="COUNT", min=2, max=20, help="Of each load.")] = 3,
    duration: Annotated[str, typer.Option(metavar="LENGTH", help="Of each run, after its warm-up.")] = "10s",
    warm_up: Annotated[str, typer.Option(metavar="LENGTH", help="Before each run, at its load.")] = "3s",
    cpu_ceiling: Annotated[
        str, typer.Option(metavar="PERCENT", help="Replicas may use so much of their cores.")
    ] = f"{plan_flags.CPU_CEILING:.0%}",
    node_cores: Annotated[str | None, typer.Option(metavar="CORES", help="Of one node, such as 4.")] = None,
    node_memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Of one node, such as 16Gi.")] = None,
    node_pods: Annotated[
        int | None, typer.Option(metavar="COUNT", min=1, help="Replicas that one node may run at most, 110 by default.")
    ] = None,
    node_reserved: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Of a node's cores and memory, not for replicas.")
    ] = None,
    spare_nodes: Annotated[
        int | None, typer.Option(metavar="COUNT", min=0, max=1000, help="Nodes that may be lost; none by default.")
    ] = None,
    price: Annotated[
        float | None, typer.Option(metavar="MONEY", min=0.0, help="Of one node, for any time: the sum is for the same.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rows to send; default: the model's sample.", dir_okay=False),
    ] = None,
    rows: Annotated[int, typer.Option(metavar="COUNT", min=1, max=100_000, help="Rows in a request.")] = 1,
    write_policy: Annotated[
        bool, typer.Option("--write-policy", help="Put the scaling policy and the queue bound that follow in force.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the promised value over load into a .html or .png.", dir_okay=False),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show the last plan and whether it still holds.")] = False,
    output: OutputOption = Format.TEXT,
) -> int:
    """Measure what load keeps a promise, and tell what a load needs.

    It measures 1, 2, ... replicas. Triggers are off meanwhile; afterwards the model is scaled as before. With --users
    or without a load the answer is about users who wait and think, with --rate about requests that come whatever
    became of those before.
    Exit code 1 when not even one user alone is served as promised, 10 when the load generator was the bottleneck, so
    that nothing can be told.
    """
    from headway.cli import load_source, plan_chart
    from headway.client import Client

    check_model_name(name)
    if plot is not None:
        plan_chart.check_place(plot)
    plan_flags.check(context)
    node = plan_nodes.node_of(node_cores, node_memory, node_pods, node_reserved, spare_nodes, price)
    if show:
        with Client() as client:
            return _show(client, name, data, rows, plot, write_policy, (node, spare_nodes or 0, price))
    promise, most_failed = _promises(sla)
    run_s = plan_flags.run_length(duration)
    think_s = load_source.length(think_time, "--think-time")
    with Client() as client, Client() as own:
        usage = client.plans(name)
        _check_alone(client, name)
        question = _question(
            promise,
            most_failed,
            users,
            rate,
            think_s,
            max_replicas,
            cpu_ceiling,
            dict(usage.now.resources),
            node,
            spare_nodes or 0,
            price,
        )
        made = load_source.requests(client, name, None, data, rows, None)
        load_source.tried(client, name, None, made[0])
        pace = (runs, run_s, load_source.length(warm_up, "--warm-up"))
        from headway.cli.plan_run import carry_out

        document = carry_out(client, own, name, question, made, pace)
        if document is None:
            note("stopped: nothing was planned, the model is scaled as before")
            return INTERRUPTED
        document = plan_nodes.billed(document, question.each, node, spare_nodes or 0, price)
        stored = client.add_plan(name, usage.now.version, digest_of(made), document)
        _told(name, stored, plot)
        if write_policy:
            put_in_force(client, name, stored)
    return 0


def _check_alone(client: Client, name: str) -> None:
    """Raises ``Conflict`` while several versions run: replicas are counted, and pinned, for each of them."""
    running = [version.name for version in client.versions(name) if version.wished is not None]
    if len(running) > 1:
        raise Conflict(
            f"{' and '.join(running)} of {name} run side by side, and a plan is of one version",
            hint=f"headway promote {name} or headway rollback {name} first",
        )


def digest_of(requests: Sequence[LoadRequest]) -> str:
    """What stands for the request mix."""
    mix = hashlib.sha256()
    for one in requests:
        for part in (one.path.encode(), one.content_type.encode(), one.body):
            mix.update(len(part).to_bytes(8, "big") + part)
    return f"sha256:{mix.hexdigest()}"


def _promises(texts: list[str] | None) -> tuple[Promise, float]:
    found = parse_all(texts or [])
    latency = [one for one in found if one.of_latency]
    if len(latency) != 1:
        raise InvalidInput(
            "what is promised?" if not latency else "a plan is about one promised time",
            where="--sla",
            hint="--sla 'p95<1s', in quotes",
        )
    errors = [one.bound for one in found if one.what == ERRORS]
    return latency[0], errors[0] if errors else plan_flags.MOST_FAILED


def _question(
    promise: Promise,
    most_failed: float,
    users: int | None,
    rate: float | None,
    think_s: float,
    max_replicas: int,
    cpu_ceiling: str,
    resources: dict[str, Any],
    node: Node | None,
    spare_nodes: int,
    price: float | None,
) -> Question:
    from headway.planning.measured import Load, Rate, Users
    from headway.planning.plan import Question, searched

    try:
        ceiling = share(cpu_ceiling)
    except ValueError as error:
        raise InvalidInput(str(error), where="--cpu-ceiling") from None
    if not 0 < ceiling <= 1:
        raise InvalidInput(f"{cpu_ceiling} of its cores", where="--cpu-ceiling", hint="above 0 %, to 100 %")
    each = plan_nodes.size_of(resources)
    if node is not None:
        plan_nodes.check_fit(each, node)
    like: Load = Rate(rate or 1.0) if rate is not None else Users(users or 1, think_s)
    needed = like if rate is not None or users is not None else None
    return Question(
        promise=promise,
        most_failed=most_failed,
        like=like,
        needed=needed,
        most_replicas=max_replicas,
        measured=searched(max_replicas),
        cpu_share=ceiling,
        each=each,
        node=node,
        spare_nodes=spare_nodes,
        price=price,
    )


def _show(
    client: Client,
    name: str,
    data: Path | None,
    rows: int,
    plot: Path | None,
    write_policy: bool,
    nodes: tuple[Node | None, int, float | None],
) -> int:
    from headway.cli import load_source

    digest = digest_of(load_source.requests(client, name, None, data, rows, None))
    found = plan_kept.last(client, name, "--show", digest)
    node, spare, price = nodes
    if node is not None:
        found = plan_nodes.retold(found, node, spare, price)
    _told(name, found, plot)
    if write_policy:
        if found.stale:
            raise InvalidInput(
                f"the plan is stale: {'; '.join(found.stale)}", where="--write-policy", hint="measure again"
            )
        put_in_force(client, name, found)
    return 0


def _told(name: str, stored: PlanView, plot: Path | None) -> None:
    from headway.cli import plan_chart, plan_text

    if plot is not None:
        plan_chart.write(name, stored, plot)
    if is_json():
        emit_json(stored)
        return
    for line in plan_text.report(name, stored, out.width if out.is_terminal else None):
        out.print(line)
    if plot is not None:
        say(f"drawn into {plot}")
