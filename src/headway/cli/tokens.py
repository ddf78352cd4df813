"""``headway token``: who may call. A secret is printed once, to standard output alone, and kept nowhere."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from headway.cli.output import Format, OutputOption, emit_json, is_json, moment, note, out, say, table
from headway.domain.errors import InvalidInput
from headway.domain.names import check_model_name, check_token_name
from headway.domain.tokens import Scope

app = typer.Typer(help="Create, list and revoke access tokens.", no_args_is_help=True)
PANEL = "Access and reference"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def register(parent: typer.Typer) -> None:
    """Add ``headway token`` and its commands."""
    parent.add_typer(app, name="token", rich_help_panel=PANEL)


def lifetime_s(text: str) -> float:
    """``90d`` -> 7776000.0; :class:`InvalidInput` otherwise."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if found is None or int(found[1]) == 0:
        raise InvalidInput(f"{text[:40]!r} is not a lifetime", where="--expires", hint="for example 12h, 30d, 4w")
    return float(int(found[1]) * _UNITS[found[2]])


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it in lists and logs.")],
    scope: Annotated[str, typer.Option(metavar="SCOPE", help="predict, deploy or admin.")] = "predict",
    model: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="Confine it to this model; repeatable.")
    ] = None,
    expires: Annotated[str | None, typer.Option(metavar="LIFETIME", help="12h, 30d, 4w. Default: never.")] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Create a token and print its secret, this once.

    The secret alone goes to standard output: TOKEN=$(headway token create NAME) keeps it out of the terminal.
    """
    from headway.client import Client

    check_token_name(name)
    if scope not in list(Scope):
        raise InvalidInput(f"{scope[:40]!r} is not a scope", where="--scope", hint=", ".join(Scope))
    for confined in model or []:
        check_model_name(confined, where="--model")
    lifetime = lifetime_s(expires) if expires is not None else None
    with Client() as client:
        created = client.create_token(name, scope=scope, models=model or None, expires_in_s=lifetime)
    if is_json():
        emit_json(created)
        return
    where = f" on {', '.join(created.models)}" if created.models else ""
    until = f", until {moment(created.expires_at)}" if created.expires_at else ""
    note(f"token {created.name}: may {created.scope}{where}{until}. This is the only time it is shown:")
    out.print(created.token, markup=False)


@app.command(name="list")
def list_(output: OutputOption = Format.TEXT) -> None:
    """List tokens, without their secrets."""
    from headway.client import Client

    with Client() as client:
        tokens = client.tokens()
    if is_json():
        emit_json(tokens)
        return
    rows = [
        (t.name, t.scope, ", ".join(t.models or ["all"]), t.state, moment(t.created_at), moment(t.expires_at))
        for t in tokens
    ]
    table(("name", "scope", "models", "state", "created", "expires"), rows, empty="no tokens yet: headway token create")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The token's name.")],
    output: OutputOption = Format.TEXT,
) -> None:
    """Revoke a token: it is refused from now on."""
    from headway.client import Client

    with Client() as client:
        revoked = client.revoke_token(name)
    if is_json():
        emit_json(revoked)
    else:
        say(f"token {revoked.name} is revoked")
