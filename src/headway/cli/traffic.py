"""Commands that move traffic and replicas: traffic, promote, rollback, scale."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from headway.cli.completion import model_names
from headway.cli.output import (
    Format,
    OutputOption,
    emit_json,
    is_json,
    note,
    say,
    wish_text,
)
from headway.cli.place import anywhere, chosen
from headway.cli.progress import LiveProgress
from headway.domain.errors import InvalidInput, InvalidTraffic
from headway.domain.names import check_model_name, check_version_name

if TYPE_CHECKING:
    from headway.api.schemas import Change
    from headway.client import Client

PANEL = "Traffic and replicas"
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=model_names)]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return at once instead of when it is done.")]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout", metavar="SECONDS", min=1.0, help="Stop waiting after so long; what was asked for goes on."
    ),
]
WAIT_S = 300.0


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (traffic, promote, rollback, scale):
        app.command(rich_help_panel=PANEL)(command)


def weights_of(arms: list[str]) -> dict[str, int]:
    """``["v1=90", "v2=10"]`` -> ``{"v1": 90, "v2": 10}``; :class:`InvalidTraffic` names the one that is wrong."""
    weights: dict[str, int] = {}
    for arm in arms:
        found = re.fullmatch(r"([^=]+)=(-?\d{1,9})%?", arm)
        if found is None:
            raise InvalidTraffic(f"{arm[:60]!r} is not VERSION=PERCENT", hint="for example: v1=90 v2=10")
        version = check_version_name(found[1])
        if version in weights:
            raise InvalidTraffic(f"{version} is named twice")
        weights[version] = int(found[2])
    return weights


@anywhere
def traffic(
    name: Name,
    arms: Annotated[list[str], typer.Argument(metavar="VERSION=PERCENT", help="For example: v1=90 v2=10")],
    no_wait: NoWait = False,
    timeout: Timeout = WAIT_S,
    output: OutputOption = Format.TEXT,
) -> None:
    """Split a model's traffic between versions.

    The shares sum to 100. A version with a share of 0 keeps running, on its pinned route; one that is not named drains
    and stops.
    """
    weights = weights_of(arms)
    if (place := chosen()) is not None:
        from headway.cli import cluster_traffic

        check_model_name(name)
        cluster_traffic.change(place, lambda models: models.set_traffic(name, weights), no_wait, timeout)
        return
    from headway.client import Client

    with Client() as client:
        _finish(client, client.set_traffic(check_model_name(name), weights), no_wait, timeout)


@anywhere
def promote(
    name: Name,
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="Default: the newest version in the split.")
    ] = None,
    no_wait: NoWait = False,
    timeout: Timeout = WAIT_S,
    output: OutputOption = Format.TEXT,
) -> None:
    """Give all traffic to a version: a canary becomes production."""
    if (place := chosen()) is not None:
        from headway.cli import cluster_traffic

        check_model_name(name)
        cluster_traffic.change(place, lambda models: models.promote(name, version), no_wait, timeout)
        return
    from headway.client import Client

    with Client() as client:
        _finish(client, client.promote(check_model_name(name), version), no_wait, timeout)


@anywhere
def rollback(
    name: Name, no_wait: NoWait = False, timeout: Timeout = WAIT_S, output: OutputOption = Format.TEXT
) -> None:
    """Return to the split before, or call a rollout off."""
    if (place := chosen()) is not None:
        from headway.cli import cluster_traffic

        check_model_name(name)
        cluster_traffic.change(place, lambda models: models.rollback(name), no_wait, timeout)
        return
    from headway.client import Client

    with Client() as client:
        _finish(client, client.rollback(check_model_name(name)), no_wait, timeout)


@anywhere
def scale(
    name: Name,
    replicas: Annotated[
        int, typer.Argument(metavar="REPLICAS", min=0, max=1000, help="Replicas of each version in the split.")
    ],
    no_wait: NoWait = False,
    timeout: Timeout = WAIT_S,
    output: OutputOption = Format.TEXT,
) -> None:
    """Set how many replicas each version in the split runs."""
    if (place := chosen()) is not None:
        from headway.cli import cluster_traffic

        check_model_name(name)
        cluster_traffic.change(place, lambda models: models.scale(name, replicas), no_wait, timeout)
        return
    from headway.client import Client

    with Client() as client:
        try:
            change = client.scale(check_model_name(name), replicas)
        except InvalidInput as error:
            if error.where == "replicas":  # beyond what triggers would let stand
                error.where, error.hint = "REPLICAS", f"headway autoscale {name} changes --min and --max"
            raise
        _finish(client, change, no_wait, timeout)


def _finish(client: Client, change: Change, no_wait: bool, timeout: float) -> None:
    if not no_wait:
        with LiveProgress(f"{change.model}: towards {wish_text(change)}", brief=True) as progress:
            client.wait_until(change.model, cursor=change.cursor, timeout_s=timeout, progress=progress.update)
    if is_json():
        emit_json(change)
    else:
        done = "asked for" if no_wait else "now"
        say(f"{change.model}: {done} {wish_text(change)}")
        if change.note:
            note(f"note: {escape(change.note)}")
