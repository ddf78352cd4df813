"""What several documents of one model have to agree on, before they become versions together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headway.domain.errors import InvalidSpec, InvalidTraffic
from headway.domain.routing_table import WEIGHT_TOTAL
from headway.domain.spec import ModelDeployment

if TYPE_CHECKING:
    from headway.control.commands import Wish


def agreed(parts: Sequence[tuple[ModelDeployment, Wish]]) -> tuple[Wish, list[int | None], list[int | None]]:
    """What several documents of one model say together: their common wish, and of each its weight or shadow share.

    Raises ``InvalidSpec`` where one does not fit to the others, ``InvalidTraffic`` for weights that make no split.
    """
    first = parts[0][1]
    for number, (document, wish) in enumerate(parts, 1):
        spec = document.spec
        if spec.arm is None:
            raise InvalidSpec(f"document {number} does not say its share", where="spec.arm", hint="arm: {weight: 100}")
        if spec.traffic is not None or spec.shadow is not None:
            field = "traffic" if spec.traffic is not None else "shadow"
            raise InvalidSpec(f"arm and {field} exclude each other", where=f"spec.{field}")
        if wish != first:
            odd = next(f for f in ("scaling", "sticky", "jobs") if getattr(wish, f) != getattr(first, f))
            hint = "it holds for the whole model: state the same in each document"
            raise InvalidSpec(f"document {number} says something else than the first", where=f"spec.{odd}", hint=hint)
    arms_of = [document.spec.arm for document, _ in parts]
    weights = [None if arm is None else arm.weight for arm in arms_of]
    copied = [None if arm is None else arm.shadow for arm in arms_of]
    total = sum(weight or 0 for weight in weights)
    if total != WEIGHT_TOTAL:
        hint = "all versions of the split stand in the same file"
        raise InvalidTraffic(f"the weights sum to {total}, not {WEIGHT_TOTAL}", where="spec.arm.weight", hint=hint)
    if sum(share is not None for share in copied) > 1:
        raise InvalidSpec("a model has one shadow at most", where="spec.arm.shadow")
    return first, weights, copied
