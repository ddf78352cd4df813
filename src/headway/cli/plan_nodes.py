"""Nodes of a capacity plan: what the flags say of one, and a kept plan told for other ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from headway.domain.errors import InvalidInput
from headway.domain.quantities import byte_count, millicores, share

if TYPE_CHECKING:
    from headway.api.schemas_plans import PlanView
    from headway.planning.nodes import Node, Size


def node_of(
    cores: str | None,
    memory: str | None,
    pods: int | None,
    reserved: str | None,
    spare: int | None,
    price: float | None,
) -> Node | None:
    """What the flags say; None without ``--node-cores``, which all others need."""
    from headway.planning.nodes import MOST_PODS, Node

    if cores is None:
        more = {"--node-memory": memory, "--node-pods": pods, "--node-reserved": reserved, "--spare-nodes": spare}
        for flag, value in {**more, "--price": price}.items():
            if value is not None:
                raise InvalidInput(f"{flag} needs --node-cores", where=flag)
        return None
    if price is not None and not math.isfinite(price):
        raise InvalidInput(f"{price} is no price", where="--price")
    where = "--node-cores"
    try:
        count = millicores(cores) / 1000
        where = "--node-memory"
        size = None if memory is None else byte_count(memory)
        where = "--node-reserved"
        taken = 0.0 if reserved is None else share(reserved)
    except ValueError as error:
        raise InvalidInput(str(error), where=where) from None
    if not 0 <= taken < 1:
        raise InvalidInput(f"{reserved} of a node", where=where, hint="0 % to less than 100 %")
    return Node(count, size, pods or MOST_PODS, taken)


def size_of(resources: Mapping[str, Any]) -> Size:
    """Of a replica; a core per worker where none is asked for."""
    from headway.planning.nodes import Size

    memory = resources.get("memory")
    cores = resources.get("cpu") or float(resources.get("workers") or 1)
    return Size(cores, None if memory is None else byte_count(memory))


def check_fit(each: Size, node: Node) -> None:
    """Raises ``InvalidInput`` when not even one replica fits such a node."""
    from headway.planning.nodes import fit

    try:
        fit(each, node)
    except ValueError as error:
        memory = "" if each.memory_bytes is None else f" and {each.memory_bytes / 2**30:.3g} GiB"
        hint = f"a replica needs {each.cores:g} cores{memory}"
        raise InvalidInput(str(error), where="--node-cores", hint=hint) from None


def billed(
    document: Mapping[str, Any], each: Size, node: Node | None, spare: int, price: float | None
) -> dict[str, Any]:
    """The plan with what each number of replicas takes, not the needed one alone: cores, and with a node also nodes and
    money. What a node costs would else be told of a load that was asked about, and of no other."""
    from headway.planning.sizing import bill

    def taken(row: Mapping[str, Any]) -> dict[str, Any]:
        found = bill(row["replicas"], each, node, price, spare)
        more = {"cores": found.cores, "nodes": found.nodes, "price": found.price}
        known = {key: value for key, value in row.items() if key not in more}
        return {**known, **{key: value for key, value in more.items() if value is not None}}

    return {**document, "capacity": [taken(row) for row in document["capacity"]]}


def retold(stored: PlanView, node: Node, spare: int, price: float | None) -> PlanView:
    """A kept plan for nodes that it was not made for: how many follows from what it says of replicas.

    Raises ``InvalidInput`` when not even one replica fits such a node.
    """
    from headway.planning.nodes import pool
    from headway.planning.sizing import bill

    each = size_of(stored.basis.resources)
    check_fit(each, node)
    document = billed(stored.document, each, node, spare, price)
    bounds, answer = document["policy"], document["answer"]
    if bounds is not None:
        document["node_pool"] = asdict(pool(each, node, bounds["minReplicas"], bounds["maxReplicas"], spare=spare))
    if answer is not None and answer["replicas"] is not None:
        found = bill(answer["replicas"], each, node, price, spare)
        known = {key: value for key, value in answer.items() if key not in {"nodes", "price"}}
        document["answer"] = {**known, "nodes": found.nodes, **({} if price is None else {"price": found.price})}
    return stored.model_copy(update={"document": document})
