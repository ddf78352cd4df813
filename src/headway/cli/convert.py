"""``headway convert``: a SeldonDeployment as the ModelDeployment documents that it is here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from headway.cli.output import Format, OutputOption, emit_json, is_json
from headway.cli.place import nowhere
from headway.domain.errors import InvalidInput

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME=DIR",
        help="Of a SeldonDeployment: the folder with the code of a container, by its name or image.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(rich_help_panel="Publish")(convert)


def folders(models: Sequence[str] | None) -> dict[str, Path]:
    """``["classifier=./iris"]`` -> folders by name. Raises ``InvalidInput``."""
    found: dict[str, Path] = {}
    for text in models or ():
        name, separator, folder = text.partition("=")
        if not (name and separator and folder):
            raise InvalidInput(f"{text[:80]!r} is not NAME=DIR", where="--model", hint="--model classifier=./iris")
        if name in found:
            raise InvalidInput(f"{name[:80]} is given twice", where="--model")
        found[name] = Path(folder)
    return found


@nowhere
def convert(
    file: Annotated[Path, typer.Option("-f", "--file", metavar="FILE", help="A SeldonDeployment, YAML or JSON.")],
    model: Models = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Print what a SeldonDeployment is as ModelDeployment documents.

    Applying them is applying it; paths count from where FILE lies. What is done in another way is said in notes.
    """
    from headway.client.manifests import read_manifest
    from headway.client.yaml_text import as_yaml

    manifest = read_manifest(file, folders(model))
    if is_json():
        emit_json({"documents": list(manifest.data), "notes": list(manifest.notes)})
        return
    typer.echo(as_yaml(manifest.data, manifest.notes), nl=False)
