"""How many nodes replicas of one size need, and the bounds of the node pool that a scaling policy asks for.

Replicas are alike, so packing them is division: a node takes as many as the scarcest of its processors, its memory and
its pods allows. During a rollout one replica more runs than is wished (``maxSurge: 1``), and it needs a place too: in a
pool that is full to the last place a rollout waits for ever. A spare node takes the replicas of one that is lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

SURGE: Final = 1
"""Replicas that a rollout starts beyond the wished ones, as the Deployments that Headway writes do."""
MOST_PODS: Final = 110
"""The kubelet's default for ``maxPods``."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of a replica."""

    cores: float
    memory_bytes: int | None = None
    """None: no limit is set."""


@dataclass(frozen=True, slots=True)
class Node:
    """Of a node pool, all of them alike."""

    cores: float
    memory_bytes: int | None = None
    """None: not looked at."""
    pods: int = MOST_PODS
    reserved: float = 0.0
    """Share of processors and memory that is not for replicas: the system, the kubelet, daemons."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Replicas on one node, and what bounds their number: ``cpu``, ``memory`` or ``pods``."""

    replicas: int
    bound_by: str


@dataclass(frozen=True, slots=True)
class Pool:
    """The bounds of a node pool, as a cluster autoscaler or a cloud's node pool wants them."""

    replicas_per_node: int
    bound_by: str
    surge: int
    """Replicas, and ``spare`` nodes, that are in the bounds."""
    spare: int
    min_nodes: int
    max_nodes: int


def fit(each: Size, node: Node) -> Fit:
    """Raises ``ValueError`` when not even one replica fits such a node."""
    share = 1 - node.reserved
    found = [(node.pods, "pods"), (_whole(node.cores * share / each.cores), "cpu")]
    if node.memory_bytes is not None and each.memory_bytes:
        found.append((_whole(node.memory_bytes * share / each.memory_bytes), "memory"))
    replicas, bound_by = min(found)
    if replicas < 1:
        raise ValueError(f"no replica fits such a node: too little {bound_by}")
    return Fit(replicas, bound_by)


def nodes_for(replicas: int, per_node: int, *, surge: int = SURGE, spare: int = 0) -> int:
    """Nodes for ``replicas`` replicas, one more during a rollout, and for as many lost nodes as are ``spare``.

    None at all for no replica: nothing is rolled out there and nothing can be lost.
    """
    return 0 if replicas == 0 else math.ceil((replicas + surge) / per_node) + spare


def pool(each: Size, node: Node, least_replicas: int, most_replicas: int, *, spare: int = 0) -> Pool:
    """For ``minReplicas`` to ``maxReplicas`` of a scaling policy. Raises ``ValueError`` as :func:`fit` does."""
    found = fit(each, node)
    least, most = (nodes_for(count, found.replicas, spare=spare) for count in (least_replicas, most_replicas))
    return Pool(found.replicas, found.bound_by, SURGE, spare, least, most)


def _whole(ratio: float) -> int:
    # 4 × 0.9 / 1.2 is 2.9999999999999996 in binary.
    return math.floor(ratio + 1e-9)
