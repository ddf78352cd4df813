"""How workers are shared out when more are wished than this machine may have. Pure.

Round by round every model gets one more, until nothing is left: nobody gets more while somebody who wants it has less.
The last round does not reach everybody, and models may be more than workers. So a model that has got some keeps a turn
of :data:`TURN_S`; then those that have waited as long without any go before it. Otherwise who has more keeps them, so
that nothing that runs is moved about without need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

TURN_S: Final = 30.0
Key = tuple[str, str]
"""Model and version."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What one version wants."""

    wanted: int
    current: int = 0


def shared_out(wishes: Mapping[Key, Wish], most: int, since_s: Mapping[str, float]) -> dict[Key, int]:
    """How many each version gets, at most what it wants and at most ``most`` together.

    ``since_s``: for how long a model has had workers, or has had none.
    """
    if sum(wish.wanted for wish in wishes.values()) <= most:
        return {key: wish.wanted for key, wish in wishes.items()}
    given = dict.fromkeys(wishes, 0)
    models: dict[str, list[Key]] = {}
    for key in wishes:
        models.setdefault(key[0], []).append(key)
    has = {model: sum(wishes[key].current for key in keys) for model, keys in models.items()}

    def turn(model: str) -> tuple[int, float, str]:
        since = since_s.get(model, 0.0)
        if has[model]:
            return (0 if since < TURN_S else 2), -has[model], model
        return (1 if since >= TURN_S else 3), -since, model

    queue, left = sorted(models, key=turn), most
    while left > 0 and queue:
        still = []
        for model in queue:
            hungry = [key for key in models[model] if given[key] < wishes[key].wanted]
            if not hungry or left == 0:
                continue
            given[min(hungry, key=lambda key: (given[key], -wishes[key].current, key))] += 1
            left -= 1
            still.append(model)
        queue = still
    return given
