"""Commands with a context, as far as they look: the same tables and the same JSON as on this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from headway.cli.output import print_line
from headway.cli.place import Place
from headway.cli.progress import LiveProgress, Step

if TYPE_CHECKING:
    from headway.api.cluster_views import ClusterModelView
    from headway.api.schemas import ModelSummary
    from headway.control.cluster_models import ClusterModels
    from headway.control.cluster_rollout import Told

T = TypeVar("T")


def ask(place: Place, work: Callable[[ClusterModels], Awaitable[T]]) -> T:
    """What ``work`` makes of the models at ``place``."""
    from headway.bootstrap_context import on_cluster

    return on_cluster(place.context, place.namespace, work)


def summaries(place: Place) -> list[ModelSummary]:
    """Every model, for a list."""
    from headway.api.cluster_views import model_summary

    return [model_summary(one) for one in ask(place, lambda models: models.all())]


def view(place: Place, name: str) -> ClusterModelView:
    """One model in full."""
    from headway.api.cluster_views import model_view

    return model_view(ask(place, lambda models: models.get(name)))


def names(place: Place, beginning: str) -> list[str]:
    """Names of models, for the shell's completion."""
    return [one.name for one in summaries(place) if one.name.startswith(beginning)]


def telling(progress: LiveProgress) -> Told:
    """``progress`` as what follows a rollout tells it."""
    return lambda stage, state, text: progress.update(Step(stage, state, text))


def print_logs(
    place: Place, name: str, *, replica: str | None, version: str | None, tail: int | None, follow: bool
) -> None:
    """What the pods of a model print, line by line."""
    from headway.bootstrap_context import logs_on_cluster

    def write(chunk: bytes) -> None:
        for line in chunk.decode("utf-8", "replace").splitlines():
            print_line(line)

    logs_on_cluster(
        place.context, place.namespace, name, write, replica=replica, version=version, tail=tail, follow=follow
    )
