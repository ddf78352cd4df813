"""Commands that change what is deployed: init, deploy, apply, diff, delete."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from headway.cli import scaffold
from headway.cli.build import Making
from headway.cli.completion import model_names
from headway.cli.convert import Models, folders
from headway.cli.output import Format, OutputOption, emit_json, err, is_json, note, say, table
from headway.cli.place import anywhere, chosen, nowhere, refuse_given
from headway.cli.progress import LiveProgress
from headway.cli.trial import body_of, trial_of
from headway.domain.errors import Conflict, InvalidInput, NotFound
from headway.domain.names import check_model_name

if TYPE_CHECKING:
    from headway.api.schemas import DeployAnswer
    from headway.client import Client

DEPLOY_S = 1200.0
DELETE_S = 300.0
SAMPLE = "sample.json"
MAX_SHOWN_SAMPLE = 400

PANEL = "Publish"
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return at once instead of when it serves.")]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout", metavar="SECONDS", min=1.0, help="Stop waiting after so long; what was asked for goes on."
    ),
]
Document = Annotated[
    Path, typer.Option("-f", "--file", metavar="FILE", help="A ModelDeployment or SeldonDeployment, YAML or JSON.")
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (init, deploy, apply, diff, delete):
        app.command(rich_help_panel=PANEL)(command)


def percent(text: str) -> int:
    """``10%`` or ``10`` -> 10; :class:`InvalidInput` unless 1 to 99."""
    found = re.fullmatch(r"(\d{1,3})\s*%?", text.strip())
    if found is None or not 1 <= int(found[1]) <= 99:
        raise InvalidInput(f"a canary share is 1% to 99%, not {text[:40]!r}", where="--canary")
    return int(found[1])


@nowhere
def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model and of the new folder.")],
    r: Annotated[bool, typer.Option("--r", help="A model in R instead of Python.")] = False,
    output: OutputOption = Format.TEXT,
) -> None:
    """Write a folder with a small model that deploys as it is."""
    check_model_name(name)
    folder = Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{name} is there already and not empty", hint="choose another name or an empty folder")
    try:
        written = scaffold.write_r(folder, name) if r else scaffold.write(folder, name)
    except OSError as error:
        raise InvalidInput(f"cannot write {error.filename or folder}: {error.strerror}") from None
    if is_json():
        emit_json({"folder": str(folder), "files": written})
        return
    for file in written:
        note(f"wrote {folder / file}")
    say(f"next: headway deploy {name}")


@anywhere
def deploy(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Folder with model.py, model.R or MLmodel; or a model on an MLflow server: models:/iris@champion, "
            "models:/iris/3, runs:/ID/model.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: as in headway.yaml, else the folder's or the URI's.")
    ] = None,
    canary: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Give the new version this share instead of all: 10%.")
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Raise the canary's share in steps on the evidence; roll back on harm.")
    ] = False,
    steps: Annotated[
        str | None, typer.Option(metavar="PERCENTS", help="Of --auto. Default: 5,10,25,50,100 from the canary's on.")
    ] = None,
    step_at_least: Annotated[
        str | None, typer.Option(metavar="TIME", help="Of --auto: the shortest time of a step. Default: 60s.")
    ] = None,
    step_at_most: Annotated[
        str | None, typer.Option(metavar="TIME", help="Of --auto: how long a step waits for evidence. Default: 1h.")
    ] = None,
    then: Annotated[
        str | None,
        typer.Option(metavar="END", help="Of --auto, after that: hold (the default), promote or rollback."),
    ] = None,
    margins: Annotated[
        list[str] | None,
        typer.Option("--margin", metavar="MARGIN", help="Of --auto: latency=10%, errors=0.5%, outcome=0.02."),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="METRIC", help="Of --auto: feedback that each step waits for; repeatable."),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The MLflow server of a URI. Default: MLFLOW_TRACKING_URI."),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="With a context: make an image, push it there (REGISTRY/NAME), deploy it."),
    ] = None,
    base: Annotated[str | None, typer.Option(metavar="IMAGE", help="Of --push: as for headway build.")] = None,
    platform: Annotated[str | None, typer.Option(metavar="PLATFORM", help="Of --push: as for headway build.")] = None,
    plain_http: Annotated[bool, typer.Option("--plain-http", help="Of --push: as for headway build.")] = False,
    no_wait: NoWait = False,
    timeout: Timeout = DEPLOY_S,
    output: OutputOption = Format.TEXT,
) -> None:
    """Publish a folder, or a model of MLflow, as the next version.

    Follows it until the version serves; a version that fails never gets traffic, and the one before serves on. The
    same content again is unchanged and starts nothing. With --auto it returns when the first step serves; headway
    status tells how it goes on. With a context a version is an image: --push makes one of the folder, else it is the
    one that headway.yaml names.
    """
    making = Making(push, base, platform, plain_http)
    if (place := chosen()) is not None:
        from headway.cli import cluster_publish

        refuse_given({"--auto": auto, "--steps": steps, "--then": then, "--margin": margins, "--metric": metrics})
        refuse_given({"--step-at-least": step_at_least, "--step-at-most": step_at_most, "--tracking-uri": tracking_uri})
        share = percent(canary) if canary is not None else None
        cluster_publish.deploy(place, model, name, share, making, no_wait, timeout)
        return
    making.refuse()
    from headway.client import Client

    share = percent(canary) if canary is not None else None
    asked = trial_of(
        steps=steps, at_least=step_at_least, at_most=step_at_most, then=then, margins=margins, metrics=metrics
    )
    if asked and not auto:
        raise InvalidInput("the rules of a trial are of no use without --auto", where=next(iter(asked)))
    if auto and share is None and steps is None:
        raise InvalidInput("--auto needs the canary's share", where="--canary", hint="--canary 5% --auto")
    if name is not None:
        check_model_name(name, where="--name")
    with Client() as client:
        with LiveProgress(f"deploying {model}") as progress:
            answer = client.deploy(
                model,
                name=name,
                canary=share,
                auto=body_of(asked) if auto else None,
                tracking_uri=tracking_uri,
                wait=not no_wait,
                timeout_s=timeout,
                progress=progress.update,
            )
        _conclude(client, answer, model, no_wait)


@anywhere
def apply(
    file: Document,
    model: Models = None,
    no_wait: NoWait = False,
    timeout: Timeout = DEPLOY_S,
    output: OutputOption = Format.TEXT,
) -> None:
    """Make a model what a document says.

    Content, resources, replicas, traffic: what the document leaves open stays as it is. Several documents of one model
    in a file, or the predictors of a SeldonDeployment, become its versions with their split.
    """
    if (place := chosen()) is not None:
        from headway.cli import cluster_publish

        refuse_given({"--model": model})
        cluster_publish.apply(place, file, no_wait, timeout)
        return
    from headway.client import Client
    from headway.client.manifests import read_manifest

    given = folders(model)
    for line in read_manifest(file, given).notes:
        note(line)
    with Client() as client:
        with LiveProgress(f"applying {file}") as progress:
            answer = client.apply(file, models=given, wait=not no_wait, timeout_s=timeout, progress=progress.update)
        _conclude(client, answer, str(file), no_wait, given)


def _conclude(
    client: Client, answer: DeployAnswer, source: str, no_wait: bool, models: dict[str, Path] | None = None
) -> None:
    if is_json():
        emit_json(answer)
        return
    name, url = answer.model, answer.urls.production
    version = f"{name} {answer.version}"
    if answer.unchanged:
        say(f"[bold]{version}[/] is unchanged: this content is deployed already")
    elif no_wait:
        say(f"[bold]{version}[/] is on its way: headway status {name}")
    else:
        say(f"[bold green]{version}[/] serves")
    for other in answer.versions:
        if other != answer.version:
            say(f"[bold]{name} {other}[/] beside it")
    say(f"  production  {url}")
    pinned = answer.urls.pinned.get(answer.version)
    if pinned:
        say(f"  pinned      {pinned}")
    sample = _sample(client, answer, source, models or {})
    say(f"  try         {escape(_curl(url, sample, token=client.info().require_token))}")
    if sample is None and not answer.unchanged:
        note(f"no {SAMPLE} beside the model: predict was not tried before going live")


def _curl(url: str, sample: str | None, *, token: bool) -> str:
    """A line for the shell that asks the model for the first time; without a sample its data is a guess."""
    authorization = ' -H "authorization: Bearer $TOKEN"' if token else ""
    data = shlex.quote(sample or "[[1, 2, 3]]")
    return f"curl -s {url}/predict{authorization} -H 'content-type: application/json' -d {data}"


def _sample_file(source: Path, models: dict[str, Path]) -> Path:
    """Where the sample request lies, or would, of a folder or a document that was deployed just now."""
    from headway.client.manifests import read_manifest
    from headway.client.pack import DOCUMENT_NAMES

    if source.is_dir():
        documents = [source / name for name in DOCUMENT_NAMES if (source / name).exists()]
        if not documents:
            return source / SAMPLE
        source = documents[0]
    model = read_manifest(source, models).documents[0].spec.model
    return source.parent / model.path / (model.sample or SAMPLE)


def _sample(client: Client, answer: DeployAnswer, source: str, models: dict[str, Path]) -> str | None:
    """The sample request in one line; its file, or its first row, when it is too long for that; None without one."""
    from headway.client.mlflow_source import is_uri

    path = None if is_uri(source) else _sample_file(Path(source), models)
    try:
        if path is not None and path.is_file():
            text = " ".join(path.read_text(encoding="utf-8").split())
            return text if len(text) <= MAX_SHOWN_SAMPLE else f"@{path}"
        text = client.sample(answer.model, version=answer.version or None).decode()
        if len(text) > MAX_SHOWN_SAMPLE:
            text = json.dumps(json.loads(text)[:1], ensure_ascii=False)
    except (OSError, NotFound, ValueError, TypeError):
        return None
    return text if len(text) <= MAX_SHOWN_SAMPLE else None


@anywhere
def diff(file: Document, model: Models = None, output: OutputOption = Format.TEXT) -> None:
    """Show what apply would change, without changing it."""
    if (place := chosen()) is not None:
        from headway.cli import cluster_publish

        refuse_given({"--model": model})
        answer = cluster_publish.diff(place, file)
    else:
        from headway.client import Client

        with Client() as client:
            answer = client.diff(file, models=folders(model))
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


def _ask(question: str) -> None:
    """Go on only with a yes. ``InvalidInput`` where nobody can be asked."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise InvalidInput("deleting needs a yes, and there is no terminal to ask on", hint="add --yes")
    # On standard error, so that standard output holds results alone.
    err.print(f"{escape(question)} \\[y/N] ", end="")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise typer.Abort


@anywhere
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=model_names)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    cancel_jobs: Annotated[
        bool, typer.Option("--cancel-jobs", help="Cancel its open jobs; else a model that has some stays.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return at once instead of when it is gone.")] = False,
    timeout: Timeout = DELETE_S,
    output: OutputOption = Format.TEXT,
) -> None:
    """Take a model out of service for good, with all its versions."""
    check_model_name(name)
    if (place := chosen()) is not None:
        from headway.cli import cluster_publish

        refuse_given({"--cancel-jobs": cancel_jobs})
        if not yes:
            _ask(f"Delete {name} and all its versions on {place.context}?")
        cluster_publish.delete(place, name, no_wait, timeout)
        return
    from headway.client import Client

    with Client() as client:
        client.get(name)
        if not yes:
            jobs = ", and cancel its open jobs" if cancel_jobs else ""
            _ask(f"Delete {name} and all its versions{jobs}?")
        cursor = client.delete(name, cancel_jobs=cancel_jobs)
        if not no_wait:
            with LiveProgress(f"{name}: requests in flight finish first"):
                client.wait_deleted(name, cursor=cursor, timeout_s=timeout)
    if is_json():
        emit_json({"model": name, "deleted": not no_wait, "cursor": cursor})
    else:
        say(f"{name} is {'being deleted' if no_wait else 'gone'}")
