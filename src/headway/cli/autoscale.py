"""``headway autoscale``: by which signals a model's replicas come and go, and how that stands."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.markup import escape
from rich.text import Text

from headway.cli.completion import model_names
from headway.cli.output import Format, OutputOption, emit_json, is_json, note, out, say
from headway.domain.errors import InvalidInput
from headway.domain.names import check_model_name

if TYPE_CHECKING:
    from headway.api.schemas_scaling import ScalingView
    from headway.cli.scaling_edit import Flags
    from headway.client import Client

PANEL = "Traffic and replicas"
EVERY_S = 1.0
"""Between looks with --watch."""
MAX_FILE = 1 << 20
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=model_names)]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(rich_help_panel=PANEL)(autoscale)


def autoscale(
    name: Name,
    least: Annotated[
        int | None, typer.Option("--min", metavar="COUNT", min=0, max=1000, help="Fewest replicas of each version.")
    ] = None,
    most: Annotated[int | None, typer.Option("--max", metavar="COUNT", min=1, max=1000, help="Most.")] = None,
    cpu: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Use of its cores per replica: 80%; off takes it away.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Use of its memory limit per replica: 75%, or off.")
    ] = None,
    concurrency: Annotated[
        str | None, typer.Option(metavar="COUNT", help="Requests in flight per replica: 4, or off.")
    ] = None,
    rps: Annotated[str | None, typer.Option(metavar="COUNT", help="Requests a second per replica: 50, or off.")] = None,
    latency: Annotated[
        str | None, typer.Option(metavar="PROMISE", help="Latency to keep: 'p95<900ms' (in quotes), or off.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="With a latency trigger: length of its windows, 1m.")
    ] = None,
    span: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="With a latency trigger: how far back windows count, 30m.")
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(metavar="COUNT", min=1, max=100, help="With a latency trigger: replicas added at a time."),
    ] = None,
    cooldown: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="With a latency trigger: pause after any change, 5m.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", metavar="FILE", help="The policy as YAML or JSON: spec.scaling, or a document."),
    ] = None,
    shadow: Annotated[
        bool | None, typer.Option("--shadow/--no-shadow", help="Only record decisions, or carry them out.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="A fixed number of replicas, as many as there are now.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change and change nothing.")] = False,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on showing how it stands until Ctrl-C.")] = False,
    output: OutputOption = Format.TEXT,
) -> None:
    """Show how a model is scaled and how that stands, or change it.

    Without options it shows the policy, what each signal says now and the latest decision. What an option sets is
    changed, the rest of the policy stays.
    """
    from headway.cli.scaling_edit import Flags
    from headway.client import Client

    check_model_name(name)
    flags = Flags(least, most, cpu, memory, concurrency, rps, latency, window, span, step, cooldown, shadow)
    changing = flags.any() or off or file is not None
    if watch and (changing or dry_run):
        raise InvalidInput("--watch shows and changes nothing", where="--watch", hint="leave the other options out")
    if off and (flags.any() or file is not None):
        raise InvalidInput("--off and a policy exclude each other", where="--off")
    if dry_run and not changing:
        raise InvalidInput("--dry-run needs something to change", where="--dry-run", hint="for example --cpu 80%")
    with Client() as client:
        if changing:
            _change(client, name, flags, file, off=off, dry_run=dry_run)
        elif watch:
            _watch(client, name)
        else:
            _show(client.scaling(name))


def _show(view: ScalingView) -> None:
    from headway.cli.scaling_text import report

    if is_json():
        emit_json(view)
        return
    for line in report(view, time.time(), out.width if out.is_terminal else None):
        out.print(line)
    if view.scaling is None:
        note(f"hint: headway autoscale {view.model} --max 12 --cpu 80% lets the load decide")


def _change(client: Client, name: str, flags: Flags, file: Path | None, *, off: bool, dry_run: bool) -> None:
    from headway.cli.scaling_edit import edited
    from headway.cli.scaling_text import changed

    before = client.scaling(name)
    after: dict[str, Any] | None = None
    if not off:
        base = before.scaling if file is None else _policy_in(file, name)
        after = edited(name, base, flags) if flags.any() else base
    if dry_run:
        _preview(before, after)
        return
    answer = client.set_scaling(name, after)
    if is_json():
        emit_json(answer)
        return
    for line in changed(before, answer.scaling, answer.replicas):
        say(escape(line))


def _preview(before: ScalingView, after: dict[str, Any] | None) -> None:
    from headway.cli.scaling_edit import differences
    from headway.cli.scaling_text import changed

    if is_json():
        found = differences(before.scaling, after)
        emit_json([{"path": one.path, "old": one.old, "new": one.new} for one in found])
        return
    policy = after if after is not None and after.get("triggers") else None
    replicas = before.replicas if before.scaling is None else max([1, *(v.wished for v in before.versions)])
    if after is not None and policy is None:
        replicas = after.get("minReplicas", 1)
    for line in changed(before, policy, replicas):
        say(escape(line))
    say("nothing was changed: this is what it would be")


def _policy_in(file: Path, name: str) -> dict[str, Any]:
    from headway.domain.scaling_document import read_scaling

    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE + 1)
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"it is not UTF-8 text: byte {error.start + 1}", where=str(file)) from None
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror or error}", where="--file") from None
    found = read_scaling(text, str(file))
    if found.model is not None and found.model != name:
        raise InvalidInput(f"{file} is the document of {found.model}, not of {name}", where="--file")
    return found.scaling.model_dump(mode="json", by_alias=True)


def _watch(client: Client, name: str) -> None:
    views = client.follow_scaling(name, every_s=EVERY_S)
    if is_json():
        for view in views:
            emit_json(view, indent=None)
    elif out.is_terminal and not out.is_dumb_terminal:
        _watch_screen(views)
    else:
        _watch_lines(views)


def _watch_screen(views: Iterator[ScalingView]) -> None:
    from rich.live import Live

    from headway.cli.scaling_text import report
    from headway.cli.times import local

    with Live(console=out, auto_refresh=False, vertical_overflow="visible") as live:
        for view in views:
            now = time.time()
            lines = [*report(view, now, out.width), Text(), Text(f"{local(now)}, Ctrl-C ends", "dim")]
            live.update(Group(*lines), refresh=True)


def _watch_lines(views: Iterator[ScalingView]) -> None:
    """A line for each version at first and whenever its counts, or what settles them, are others."""
    from headway.cli.scaling_text import counted
    from headway.cli.times import local

    told: dict[str, object] = {}
    for view in views:
        for version in view.versions:
            decision = version.decision
            settled = None if decision is None else (decision.current, decision.desired, decision.binding)
            standing = (version.wished, version.ready, settled)
            if told.get(version.version) == standing:
                continue
            told[version.version] = standing
            summary = "" if decision is None else decision.summary
            at = local(time.time() if decision is None else decision.at)
            out.print(Text(f"{at}  {version.version}  {counted(version)}  {summary}".rstrip()))
