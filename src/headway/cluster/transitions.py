"""What happened to a cluster's objects, as events: a pure function of two looks at one object.

Nothing depends on what was told of the object in between, so it does not matter whether the second look came a moment
later, or after a restart. Each event has a key: the object's uid, what happened, and the turn it happened in (how often
the container had been started, a condition's moment, a resource version), so whoever finds out the same calls it the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from headway.cluster.kinds import MODEL_DEPLOYMENT, OWNED
from headway.cluster.model_transitions import (
    model_facts,
    model_transitions,
    route_facts,
    route_transitions,
    version_facts,
    version_transitions,
    with_lives,
)
from headway.cluster.pod_transitions import pod_facts, pod_transitions, with_runs
from headway.cluster.reconcile import ROUTES
from headway.domain.cluster_objects import DEPLOYMENT, POD, Kind, Object
from headway.domain.events import NewEvent
from headway.domain.names import MODEL_NAME, VERSION_NAME
from headway.domain.sightings import Facts, Sighting

_FACTS: Final[Mapping[Kind, Callable[[Object], Facts | None]]] = {
    MODEL_DEPLOYMENT: model_facts,
    DEPLOYMENT: version_facts,
    POD: pod_facts,
    **{kind: route_facts for kind in OWNED if kind.kind in ROUTES},
}
TOLD_OF: Final = tuple(_FACTS)
"""The kinds of objects that events are told of."""
_LONGEST_REPLICA: Final = 63


def facts_of(kind: Kind, item: Object) -> Facts | None:
    """What of ``item`` is told of; None: nothing, now or ever.

    Anybody may make objects with labels of ours; what cannot be a replica or version of Headway's is passed over.
    """
    facts = _FACTS[kind](item)
    if facts is None or not MODEL_NAME.fullmatch(facts["model"]):
        return None
    if not VERSION_NAME.fullmatch(facts.get("version", "v1")):
        return None
    return None if kind == POD and len(item["metadata"]["name"]) > _LONGEST_REPLICA else facts


def told_facts(before: Facts | None, facts: Facts) -> Facts:
    """``facts`` with what follows from those ``before``, as they are to be kept."""
    if "versions" in facts:
        return with_lives(facts, before)
    return with_runs(facts, before) if "counted" in facts else facts


def transitions(before: Sighting | None, after: Sighting, now: float, *, adopted: bool = False) -> list[NewEvent]:
    """What happened between two looks at one object, in order.

    ``before`` None: it was never seen. ``after.facts`` None: it is gone. ``now`` is seconds since the epoch;
    ``adopted``: nobody was looking in between.
    """
    match after.kind:
        case "Pod":
            found: Iterator[NewEvent] = pod_transitions(before, after, now, adopted=adopted)
        case "Deployment":
            found = version_transitions(before, after, now)
        case "ModelDeployment":
            found = model_transitions(before, after, now)
        case _:
            found = route_transitions(before, after, now)
    return list(found)
