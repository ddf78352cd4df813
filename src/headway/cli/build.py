"""``headway build``: a model as a container image, without a container engine."""

from __future__ import annotations

import asyncio
import platform as machine
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape

from headway.cli.output import Format, OutputOption, emit_json, is_json, say
from headway.cli.place import nowhere
from headway.cli.progress import LiveProgress, Step
from headway.domain.errors import InvalidInput
from headway.domain.names import check_model_name

if TYPE_CHECKING:
    from headway.client.documents import Deployable

PANEL = "Publish"
OURS: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine(), "amd64")


@dataclass(frozen=True, slots=True)
class Making:
    """How an image of what is deployed is made and where it goes; of no use without ``push``."""

    push: str | None
    base: str | None = None
    platform: str | None = None
    plain_http: bool = False

    def refuse(self, why: str = "on this machine a folder is deployed as it is") -> None:
        """Refuse what was given."""
        given = {"--push": self.push, "--base": self.base, "--platform": self.platform, "--plain-http": self.plain_http}
        for name, value in given.items():
            if value:
                hint = "headway --context CONTEXT deploy is for clusters, headway build for an image alone"
                raise InvalidInput(why, where=name, hint=hint)

    def run(self, found: Deployable) -> dict[str, Any]:
        """Make the image and push it; what came of it, as ``headway build`` tells it."""
        return _run(
            found,
            dockerfile=None,
            python=OURS,
            base=self.base or f"python:{OURS}-slim",
            platform=self.platform or f"linux/{ARCHITECTURE}",
            push=self.push,
            to=None,
            plain_http=self.plain_http,
        )


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(rich_help_panel=PANEL)(build)


@nowhere
def build(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with model.py or model.R.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: as in headway.yaml, else the folder's name.")
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Push it there: REGISTRY/NAME, or REGISTRY/NAME:TAG.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="PATH", help="Write it: a folder in OCI layout, or FILE.tar.")
    ] = None,
    dockerfile: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Build nothing: write a Dockerfile and all it copies, for another builder."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Begin with it: from a registry, or ./FOLDER (OCI layout), ./ROOT.tar."),
    ] = None,
    platform: Annotated[
        str | None, typer.Option(metavar="PLATFORM", help="linux/amd64 or linux/arm64. Default: this machine's.")
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="Python of the base, for --dockerfile only; else it is looked up in it."),
    ] = None,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Speak to registries without TLS; those on loopback always are.")
    ] = False,
    output: OutputOption = Format.TEXT,
) -> None:
    """Make a model a container image, without a container engine.

    The same folder and base give the same image, bit for bit. Without --base it is python:X.Y-slim of Docker Hub, with
    the Python that Headway itself runs on.
    """
    from headway.client.documents import from_folder

    if name is not None:
        check_model_name(name, where="--name")
    if dockerfile is None and push is None and to is None:
        raise InvalidInput("where to?", hint="--push REGISTRY/NAME:TAG, --to PATH, or --dockerfile DIR")
    if dockerfile is not None and (push is not None or to is not None):
        raise InvalidInput("--dockerfile builds nothing that could be pushed or written", where="--dockerfile")
    if python is not None and dockerfile is None:
        raise InvalidInput("the Python of an image is that of its base", where="--python", hint="choose another --base")
    if python is not None and python not in ("3.11", "3.12", "3.13", "3.14"):
        raise InvalidInput(f"{python[:20]!r} is no Python that the model server runs on", where="--python", hint="3.11")
    chosen = base or f"python:{python or OURS}-slim"
    result = _run(
        from_folder(folder, name),
        dockerfile=dockerfile,
        python=python or OURS,
        base=chosen,
        platform=platform or f"linux/{ARCHITECTURE}",
        push=push,
        to=to,
        plain_http=plain_http,
    )
    if is_json():
        emit_json(result)
    else:
        _tell(result)


def _run(found: Deployable, *, dockerfile: Path | None, python: str, **wanted: Any) -> dict[str, Any]:
    from headway.bootstrap_images import Images, Wanted
    from headway.cli.lifecycle import read_settings

    images, want = Images(read_settings().home_path), Wanted(**wanted)
    with LiveProgress(f"building {found.name}", goes_on=False) as progress:

        def tell(stage: str, state: str, text: str) -> None:
            progress.update(Step(stage, "done" if state == "done" else "running", text))

        if dockerfile is None:
            return asyncio.run(images.build(found, want, tell))
        files = asyncio.run(images.dockerfile(found, want, dockerfile, python, tell))
        return {"model": found.name, "folder": str(dockerfile), "files": files}


def _tell(result: dict[str, Any]) -> None:
    if "folder" in result:
        say(f"[bold]{escape(result['folder'])}[/] holds {', '.join(result['files'])}")
        say(f"  next  docker build {escape(result['folder'])}")
        return
    say(f"[bold]{result['model']}[/] is {result['digest']}, {result['size_bytes'] / 1e6:.1f} MB")
    say(f"  version  {result['version_digest']}")
    say(f"  base     {escape(result['base']['name'])} {result['base']['digest']}, Python {result['base']['python']}")
    if "written" in result:
        say(f"  written  {escape(result['written'])}")
    if "pushed" in result:
        pushed = result["pushed"]
        say(f"  pushed   {escape(pushed['image'])}, {pushed['uploaded'] / 1e6:.1f} MB uploaded")
