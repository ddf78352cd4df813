"""Commands that need no running Headway: the document's schema and the version."""

from __future__ import annotations

import typer

from headway import __version__
from headway.cli.output import Format, OutputOption, emit_json, is_json, say
from headway.cli.place import nowhere

PANEL = "Access and reference"


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (schema, version):
        app.command(rich_help_panel=PANEL)(command)


@nowhere
def schema(output: OutputOption = Format.TEXT) -> None:
    """Print the JSON Schema of headway.yaml, for editors and checks."""
    from headway.domain.spec import json_schema

    emit_json(json_schema())


@nowhere
def version(output: OutputOption = Format.TEXT) -> None:
    """Print Headway's version."""
    if is_json():
        emit_json({"version": __version__})
    else:
        say(__version__)
