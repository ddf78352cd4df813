"""Commands that change what is deployed: init, deploy, apply, diff, delete; and the document's schema."""

from __future__ import annotations

import re
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from headway.cli import scaffold
from headway.cli.output import Format, OutputOption, emit_json, err, is_json, note, say, table
from headway.cli.progress import LiveProgress
from headway.domain.errors import Conflict, InvalidInput
from headway.domain.names import check_model_name

if TYPE_CHECKING:
    from headway.api.schemas import DeployAnswer

DEPLOY_S = 1200.0
DELETE_S = 300.0
SAMPLE = "sample.json"
MAX_SHOWN_SAMPLE = 400

NoWait = Annotated[bool, typer.Option("--no-wait", help="Return at once instead of when it serves.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1.0, help="Seconds to wait at most.")]
Document = Annotated[Path, typer.Option("-f", "--file", help="A ModelDeployment document, YAML or JSON.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (init, deploy, apply, diff, delete, schema):
        app.command()(command)


def percent(text: str) -> int:
    """``10%`` or ``10`` -> 10; :class:`InvalidInput` unless 1 to 99."""
    found = re.fullmatch(r"(\d{1,3})\s*%?", text.strip())
    if found is None or not 1 <= int(found[1]) <= 99:
        raise InvalidInput(f"a canary share is 1% to 99%, not {text[:40]!r}", where="--canary")
    return int(found[1])


def init(
    name: Annotated[str, typer.Argument(help="Name of the model and of the new folder.")],
    output: OutputOption = Format.TEXT,
) -> None:
    """Write a folder with a small model that deploys as it is."""
    check_model_name(name)
    folder = Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{name} is there already and not empty", hint="choose another name or an empty folder")
    try:
        written = scaffold.write(folder, name)
    except OSError as error:
        raise InvalidInput(f"cannot write {error.filename or folder}: {error.strerror}") from None
    if is_json():
        emit_json({"folder": str(folder), "files": written})
        return
    for file in written:
        note(f"wrote {folder / file}")
    say(f"next: headway deploy {name}")


def deploy(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with model.py.")],
    name: Annotated[str | None, typer.Option(help="Default: as in headway.yaml, else the folder's name.")] = None,
    canary: Annotated[str | None, typer.Option(help="Give the new version this share instead of all: 10%.")] = None,
    no_wait: NoWait = False,
    timeout: Timeout = DEPLOY_S,
    output: OutputOption = Format.TEXT,
) -> None:
    """Make a folder the next version of a model and bring it into production."""
    from headway.client import Client

    share = percent(canary) if canary is not None else None
    if name is not None:
        check_model_name(name, where="--name")
    with Client() as client, LiveProgress(f"deploying {folder}") as progress:
        answer = client.deploy(
            folder, name=name, canary=share, wait=not no_wait, timeout_s=timeout, progress=progress.update
        )
    _conclude(answer, folder, no_wait)


def apply(
    file: Document, no_wait: NoWait = False, timeout: Timeout = DEPLOY_S, output: OutputOption = Format.TEXT
) -> None:
    """Make a model what a document says: content, resources, replicas, traffic."""
    from headway.client import Client

    with Client() as client, LiveProgress(f"applying {file}") as progress:
        answer = client.apply(file, wait=not no_wait, timeout_s=timeout, progress=progress.update)
    _conclude(answer, file.parent, no_wait)


def _conclude(answer: DeployAnswer, folder: Path, no_wait: bool) -> None:
    if is_json():
        emit_json(answer)
        return
    name, url = answer.model, answer.urls.production
    if answer.unchanged:
        say(f"[bold]{name} {answer.version}[/] is unchanged: this content is deployed already")
    elif no_wait:
        say(f"[bold]{name} {answer.version}[/] is on its way: headway status {name}")
    else:
        say(f"[bold green]{name} {answer.version}[/] serves")
    say(f"  production  {url}")
    pinned = answer.urls.pinned.get(answer.version)
    if pinned:
        say(f"  pinned      {pinned}")
    sample = _sample(folder)
    if sample is None:
        note("no sample.json in the folder: predict was not tried before going live")
    body = sample if sample is not None and len(sample) <= MAX_SHOWN_SAMPLE else None
    data = shlex.quote(body) if body is not None else ("@" + SAMPLE if sample is not None else "'[[1, 2, 3]]'")
    say(f"  try         curl -s {url}/predict -H 'content-type: application/json' -d {escape(data)}")


def _sample(folder: Path) -> str | None:
    try:
        return " ".join((folder / SAMPLE).read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError):
        return None


def diff(file: Document, output: OutputOption = Format.TEXT) -> None:
    """Show what apply would change, without changing it."""
    from headway.client import Client

    with Client() as client:
        answer = client.diff(file)
    if is_json():
        emit_json(answer)
        return
    if not answer.exists:
        say(f"{file}: this model is not deployed yet; apply would create it")
    elif answer.new_version:
        say(f"{file}: apply would make a new version")
    if not answer.changes:
        say(f"{file}: no changes")
        return
    table(("field", "deployed", "document"), [(c.path, _cell(c.old), _cell(c.new)) for c in answer.changes], empty="")


def _cell(value: object) -> str:
    text = "-" if value is None else str(value)
    return text[:12] if re.fullmatch(r"[0-9a-f]{64}", text) else text


def delete(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    no_wait: NoWait = False,
    output: OutputOption = Format.TEXT,
) -> None:
    """Take a model out of service for good: its routes, replicas and versions."""
    from headway.client import Client

    check_model_name(name)
    with Client() as client:
        client.get(name)
        if not yes:
            if not sys.stdin.isatty():
                raise InvalidInput("deleting needs a yes, and there is no terminal to ask on", hint="add --yes")
            if not typer.confirm(f"Delete {name} and all its versions?", err=True):
                raise typer.Exit(1)
        cursor = client.delete(name)
        if not no_wait:
            with err.status(f"draining {escape(name)}") if err.is_terminal and not is_json() else nullcontext():
                client.wait_deleted(name, cursor=cursor, timeout_s=DELETE_S)
    if is_json():
        emit_json({"model": name, "deleted": not no_wait, "cursor": cursor})
    else:
        say(f"{name} is {'being deleted' if no_wait else 'gone'}")


def schema(output: OutputOption = Format.TEXT) -> None:
    """Print the JSON Schema of a ModelDeployment document, for editors and validators."""
    from headway.domain.spec import json_schema

    emit_json(json_schema())
