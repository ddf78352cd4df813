"""An inference graph as the model server is told of it: nodes with their folders in the bundle."""

from __future__ import annotations

from typing import Literal

import msgspec

NodeType = Literal["MODEL", "TRANSFORMER", "OUTPUT_TRANSFORMER", "ROUTER", "COMBINER"]
Value = bool | int | float | str


class GraphNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One node with everything below it. Its code lies in the folder of the bundle that has its name."""

    name: str
    type: NodeType
    implementation: str | None = None
    """One that Headway brings; None: the user's own code."""
    entrypoint: str | None = None
    """``module:attribute``; None: looked for in ``model.py``."""
    parameters: dict[str, Value] = {}
    """Arguments of its constructor."""
    children: tuple[GraphNode, ...] = ()
