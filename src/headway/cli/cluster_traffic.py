"""Commands with a context that move traffic and replicas."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from headway.cli.cluster import ask, telling
from headway.cli.output import emit_json, is_json, note, say, wish_text
from headway.cli.place import Place
from headway.cli.progress import LiveProgress

if TYPE_CHECKING:
    from headway.control.cluster_models import Asked, ClusterModels


def change(place: Place, order: Callable[[ClusterModels], Awaitable[Asked]], no_wait: bool, timeout_s: float) -> None:
    """Ask for what ``order`` asks for, follow it, and tell of it as on this machine."""
    from headway.api.cluster_views import arm_views, first_count, scaling_range
    from headway.api.schemas import Change
    from headway.control.cluster_rollout import ClusterRollout

    async def run(models: ClusterModels) -> Asked:
        asked = await order(models)
        if not no_wait:
            with LiveProgress(f"{asked.name.name}: on its way", brief=True) as progress:
                await ClusterRollout(models, timeout_s, telling(progress)).wait(asked)
        return asked

    asked = ask(place, run)
    told = Change(
        model=asked.name.name,
        target=arm_views(asked.said.target),
        replicas=first_count(asked.said.document),
        scaling=scaling_range(asked.said.document),
        cursor=0,
        note=asked.note,
    )
    if is_json():
        # There is no stream of events to go on from.
        emit_json({**told.model_dump(mode="json", exclude={"cursor"}), "namespace": asked.name.namespace})
    else:
        say(f"{told.model}: {'asked for' if no_wait else 'now'} {wish_text(told)}")
        if told.note:
            note(f"note: {told.note}")
