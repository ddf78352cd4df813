"""Where a command does its work: on a cluster, when a context was chosen, else on this machine.

A command says that it can do both by :func:`anywhere`, or that it needs neither by :func:`nowhere`. All others are
refused once a context is chosen, so that none does to this machine what was meant for a cluster.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer

from headway.domain.errors import InvalidInput, Unsupported

Command = TypeVar("Command", bound=Callable[..., object])
_WHERE = "_headway_where"
_ELSEWHERE = {"headway loadtest": "headway kube loadtest sends the load from inside a cluster"}
"""Hints for commands that have another name on a cluster."""


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace of a cluster."""

    context: str
    namespace: str | None
    """None: the one that the context names."""


class _Chosen:
    """For the running command."""

    place: Place | None = None
    namespace: str | None = None
    """Stated on the command line."""


def options(
    context: typer.Context,
    context_name: Annotated[
        str | None,
        typer.Option(
            "--context",
            metavar="CONTEXT",
            envvar="HEADWAY_CONTEXT",
            help="Work on the cluster of this context of the kubeconfig, not on this machine.",
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            metavar="NAMESPACE",
            envvar="HEADWAY_NAMESPACE",
            help="With a context: the namespace. Default: the context's own.",
        ),
    ] = None,
) -> None:
    """Publish a model as a production REST API and keep it fast."""
    source = context.get_parameter_source("namespace")
    _Chosen.namespace = namespace if source is not None and source.name == "COMMANDLINE" else None
    _Chosen.place = None if context_name is None else Place(context_name, namespace)


def chosen() -> Place | None:
    """The cluster that the running command is to work on; None: this machine."""
    return _Chosen.place


def default_context() -> str | None:
    """The context of commands that have an option of their own for it."""
    return None if _Chosen.place is None else _Chosen.place.context


def default_namespace() -> str | None:
    """The same, of the namespace; None: the one that the context names."""
    return None if _Chosen.place is None else _Chosen.place.namespace


def anywhere(command: Command) -> Command:
    """Marks a command that asks :func:`chosen`."""
    setattr(command, _WHERE, "anywhere")
    return command


def nowhere(command: Command) -> Command:
    """Marks a command that needs neither this machine's Headway nor a chosen cluster."""
    setattr(command, _WHERE, "nowhere")
    return command


def refuse_given(options: Mapping[str, object]) -> None:
    """Refuse those of ``options``, by name, that were given: they do not work on a cluster yet."""
    for name, value in options.items():
        if value:
            raise Unsupported(f"{name} does not work on a cluster yet", where=name, hint="leave it out")


def guard(app: typer.Typer, path: str = "headway") -> None:
    """Have every command of ``app`` refuse what it would ignore."""
    for info in app.registered_commands:
        if info.callback is not None:
            name = info.name or info.callback.__name__
            info.callback = _guarded(info.callback, f"{path} {name}")
    for group in app.registered_groups:
        if group.typer_instance is not None:
            guard(group.typer_instance, f"{path} {group.name}")


def _guarded(command: Callable[..., Any], name: str) -> Callable[..., Any]:
    where = getattr(command, _WHERE, "here")

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        if _Chosen.namespace is not None and (where == "nowhere" or _Chosen.place is None):
            own = f"{name} --help shows its own options"
            hint = own if where == "nowhere" else "name the cluster with --context"
            raise InvalidInput("a namespace is one of a cluster", where="--namespace", hint=hint)
        if where == "here" and _Chosen.place is not None:
            raise Unsupported(
                f"{name} does not work on a cluster yet",
                where=f"context {_Chosen.place.context}",
                hint=_ELSEWHERE.get(name, "leave --context out, and HEADWAY_CONTEXT, for the Headway of this machine"),
            )
        return command(*args, **kwargs)

    return run
