"""Nodes for replicas of one size: everything has its place, a rollout and a lost node included, and none is idle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.planning.nodes import SURGE, Node, Size, fit, nodes_for, pool

GIB = 1 << 30
sizes = st.builds(
    Size,
    cores=st.integers(1, 80).map(lambda tenths: tenths / 10),
    memory_bytes=st.none() | st.integers(1, 64).map(lambda eighths: eighths * GIB // 8),
)
nodes = st.builds(
    Node,
    cores=st.integers(1, 96).map(float),
    memory_bytes=st.none() | st.integers(1, 256).map(lambda gib: gib * GIB),
    pods=st.integers(1, 250),
    reserved=st.integers(0, 50).map(lambda percent: percent / 100),
)
counts = st.integers(0, 500)


def fits(count: int, each: Size, node: Node) -> bool:
    """Whether so many replicas fit, by adding up."""
    share = 1 - node.reserved
    memory = None if each.memory_bytes is None or node.memory_bytes is None else node.memory_bytes * share
    return (
        count <= node.pods
        and count * each.cores <= node.cores * share + 1e-6
        and (memory is None or each.memory_bytes is None or count * each.memory_bytes <= memory + 1)
    )


@given(sizes, nodes)
def test_a_node_takes_as_many_as_fit_and_not_one_more(each: Size, node: Node) -> None:
    try:
        found = fit(each, node)
    except ValueError:
        assert not fits(1, each, node)
        return
    assert fits(found.replicas, each, node)
    assert not fits(found.replicas + 1, each, node)
    assert found.bound_by in {"cpu", "memory", "pods"}


@given(counts, st.integers(1, 60), st.integers(0, 3))
def test_nodes_are_enough_during_a_rollout_on_what_is_left_and_none_is_too_many(
    replicas: int, per_node: int, spare: int
) -> None:
    found = nodes_for(replicas, per_node, spare=spare)
    if replicas == 0:
        assert found == 0
        return
    left = found - spare
    assert left * per_node >= replicas + SURGE
    assert (left - 1) * per_node < replicas + SURGE


@given(sizes, nodes, counts, counts, st.integers(0, 3))
def test_a_pool_holds_what_its_policy_may_ask_for(each: Size, node: Node, one: int, other: int, spare: int) -> None:
    least, most = sorted((one, other))
    try:
        found = pool(each, node, least, most, spare=spare)
    except ValueError:
        return
    assert 0 <= found.min_nodes <= found.max_nodes
    assert found.max_nodes == nodes_for(most, found.replicas_per_node, spare=spare)
    for replicas in {least, (least + most) // 2, most}:
        assert found.min_nodes <= nodes_for(replicas, found.replicas_per_node, spare=spare) <= found.max_nodes


@pytest.mark.parametrize(
    ("each", "node", "replicas", "bound_by"),
    [
        (Size(1.0, 2 * GIB), Node(4.0, 16 * GIB), 4, "cpu"),
        (Size(0.5, 6 * GIB), Node(16.0, 16 * GIB), 2, "memory"),
        (Size(0.5, 6 * GIB), Node(16.0), 32, "cpu"),
        (Size(0.1), Node(96.0), 110, "pods"),
        (Size(1.0, 2 * GIB), Node(4.0, 16 * GIB, reserved=0.1), 3, "cpu"),
        (Size(1.2), Node(4.0, reserved=0.1), 3, "cpu"),
    ],
)
def test_the_scarcest_of_cores_memory_and_pods_bounds(each: Size, node: Node, replicas: int, bound_by: str) -> None:
    found = fit(each, node)
    assert (found.replicas, found.bound_by) == (replicas, bound_by)


def test_a_full_pool_has_no_place_for_a_rollout_so_a_node_more_is_told() -> None:
    assert nodes_for(8, 4) == 3
    assert nodes_for(7, 4) == 2
    assert nodes_for(7, 4, spare=1) == 3
