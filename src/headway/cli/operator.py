"""``headway operator``: the loop that keeps a cluster's objects as its custom resources say, in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from headway.cli.kube_objects import PANEL, Context
from headway.cli.lifecycle import read_settings
from headway.cli.output import Format, OutputOption, emit_json, is_json, note, say
from headway.cli.place import default_context, nowhere


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(rich_help_panel=PANEL)(operator)


@nowhere
def operator(
    context: Context = None,
    namespace: Annotated[
        str | None,
        typer.Option("-n", "--namespace", metavar="NAMESPACE", help="Look after this one alone. Default: all."),
    ] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Keep a cluster's objects as its ModelDeployments say.

    Of several that run only one writes; another takes over within seconds. Ctrl-C or SIGTERM ends it: what runs goes on
    as it is.
    """
    from headway.bootstrap_operator import operate

    settings = read_settings()

    def told(what: str, identity: str) -> None:
        if is_json():
            emit_json({"operator": identity, "state": what}, indent=None)
        else:
            note(f"{identity} is {what}")

    operate(context or default_context(), namespace, settings, told)
    if not is_json():
        say("the operator is down")
