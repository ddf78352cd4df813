"""``headway kube``: what a deployment is on Kubernetes, printed without a cluster; and what a cluster needs for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from headway.cli import kube_loadtest
from headway.cli.kube_objects import PANEL, Context, Documents, InNamespace, emit_objects
from headway.cli.output import Format, OutputOption, emit_json, is_json, note, say
from headway.cli.place import default_context, nowhere

app = typer.Typer(help="Run models on Kubernetes.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add ``headway kube`` and its commands."""
    kube_loadtest.register(app)
    parent.add_typer(app, name="kube", rich_help_panel=PANEL)


@app.command()
@nowhere
def render(file: Documents, namespace: InNamespace = None, output: OutputOption = Format.TEXT) -> None:
    """Print every object that documents come to, as YAML for kubectl apply -f -.

    Needs no cluster. What only a cluster knows is left out: owner references, and replicas that a loop has set since.
    """
    from headway.client.documents import text_of
    from headway.cluster.refusals import admitted
    from headway.cluster.render import render_documents
    from headway.domain.spec_document import read_as

    documents = [read_as(admitted, text_of(path), str(path)) for path in file]
    emit_objects(render_documents(documents, namespace))


@app.command()
@nowhere
def crds(output: OutputOption = Format.TEXT) -> None:
    """Print the custom resources that a cluster needs to know ModelDeployment and ScalingPolicy."""
    from headway.cluster.crds import crds as definitions

    emit_objects(definitions())


@app.command()
@nowhere
def install(
    image: Annotated[str, typer.Option(metavar="IMAGE", help="Holds headway with its extra kubernetes.")],
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", metavar="NAMESPACE", help="Of the operator itself.")
    ] = "headway-system",
    events_secret: Annotated[
        str | None,
        typer.Option(
            metavar="SECRET",
            help="Its keys database and broker say where to record what happens, and whom to tell. Default: nowhere.",
        ),
    ] = None,
    context: Context = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the objects and touch nothing.")] = False,
    output: OutputOption = Format.TEXT,
) -> None:
    """Install the operator on a cluster, or bring what is there to this release."""
    from headway.cluster.install import install as objects_of

    objects = objects_of(image, namespace, events_secret=events_secret)
    if dry_run:
        emit_objects(objects)
        return
    _apply(context, objects)
    if is_json():
        emit_json(objects)
    else:
        say(f"the operator is installed: kubectl -n {namespace} get deployment headway-operator")


@app.command()
@nowhere
def jobs(
    image: Annotated[
        str, typer.Option(metavar="IMAGE", help="Holds headway with its extras kubernetes and postgresql.")
    ],
    namespace: Annotated[str, typer.Option("-n", "--namespace", metavar="NAMESPACE", help="Of the models.")],
    replicas: Annotated[int, typer.Option(min=1, max=100, metavar="NUMBER", help="Of the job server.")] = 2,
    context: Context = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the objects and touch nothing.")] = False,
    output: OutputOption = Format.TEXT,
) -> None:
    """Let the models of a namespace take jobs: install a job server there, or bring what is there to this release.

    The namespace's Secret headway-jobs says where jobs are stored: its keys database (postgresql://…), webhookSecret
    and, if there is one, broker (amqp://…).
    """
    from headway.cluster.job_server import job_server

    objects = job_server(image, namespace, replicas)
    if dry_run:
        emit_objects(objects)
        return
    _apply(context, objects)
    if is_json():
        emit_json(objects)
    else:
        say(f"the job server is installed: kubectl -n {namespace} get deployment headway-jobs")


def _apply(context: str | None, objects: Sequence[dict[str, Any]]) -> None:
    from headway.bootstrap_operator import apply_objects

    apply_objects(
        context or default_context(), objects, lambda one: note(f"applied {one['kind']} {one['metadata']['name']}")
    )
