"""``spec.graph``: a tree of nodes that answer a request together, in one replica.

Types, built-in implementations and meaning are those of Seldon Core 1's inference graphs; so are the methods that the
model server calls (:mod:`headway.server.graph`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from headway.domain.spec_part import Part
from headway.domain.spec_values import EntryPoint, FolderPath

NodeType = Literal["MODEL", "TRANSFORMER", "OUTPUT_TRANSFORMER", "ROUTER", "COMBINER"]
Implementation = Literal[
    "SIMPLE_MODEL",
    "SIMPLE_ROUTER",
    "RANDOM_ABTEST",
    "AVERAGE_COMBINER",
    "SKLEARN_SERVER",
    "XGBOOST_SERVER",
    "MLFLOW_SERVER",
]
BUILT_IN: Final = {
    "SIMPLE_MODEL": "MODEL",
    "SIMPLE_ROUTER": "ROUTER",
    "RANDOM_ABTEST": "ROUTER",
    "AVERAGE_COMBINER": "COMBINER",
}
"""Implementations that need no folder, and their types."""
SERVERS: Final = ("SKLEARN_SERVER", "XGBOOST_SERVER", "MLFLOW_SERVER")
"""Implementations that serve a folder without code."""
PARENTS: Final = ("ROUTER", "COMBINER")
"""Types that stand between several children."""
MOST_NODES: Final = 100

NodeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
ParameterName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class GraphNode(Part):
    name: NodeName = Field(description="Once in the graph; the node's folder in the bundle.")
    type: NodeType = Field(description="Which method is called: predict, transform_input, transform_output, …")
    implementation: Implementation | None = Field(
        default=None, description="One that Headway brings, or that serves a folder without code."
    )
    path: FolderPath | None = Field(
        default=None, description="Folder of its code, relative to this document; left out, a folder of its name."
    )
    entrypoint: EntryPoint | None = Field(
        default=None, description="module:attribute; left out, it is looked for in model.py."
    )
    parameters: dict[ParameterName, bool | int | float | str] = Field(
        default={}, max_length=100, description="Arguments of its constructor."
    )
    children: list[GraphNode] = Field(default=[], max_length=MOST_NODES, description="Nodes below it.")

    @property
    def folder(self) -> str | None:
        """Where its files are, as the document says; None for a node that needs none."""
        return None if self.implementation in BUILT_IN else self.path or self.name

    def nodes(self) -> Iterator[GraphNode]:
        """This node and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.nodes()

    def document(self) -> dict[str, Any]:
        """As the model server is told of it."""
        return self._plain(keep_unset=False)

    def without_paths(self) -> dict[str, Any]:
        """As it counts for a version: the content of its folders does, not where they lay."""
        return self._plain(keep_unset=True)

    def _plain(self, *, keep_unset: bool) -> dict[str, Any]:
        own = self.model_dump(mode="json", by_alias=True, exclude={"path", "children"}, exclude_none=not keep_unset)
        return {**own, "children": [child._plain(keep_unset=keep_unset) for child in self.children]}

    @model_validator(mode="after")
    def _fits(self) -> GraphNode:
        wanted = BUILT_IN.get(self.implementation or "", "MODEL" if self.implementation in SERVERS else None)
        if wanted is not None and self.type != wanted:
            raise ValueError(f"{self.implementation} is a {wanted}, not a {self.type}")
        if self.implementation is not None and self.entrypoint is not None:
            raise ValueError(f"{self.implementation} brings its own code: leave out entrypoint")
        if self.implementation in BUILT_IN and self.path is not None:
            raise ValueError(f"{self.implementation} needs no files: leave out path")
        count = len(self.children)
        if self.type in PARENTS and not count:
            raise ValueError(f"a {self.type} needs children")
        if self.type not in PARENTS and count > 1:
            raise ValueError(f"a {self.type} has one child at most; put a ROUTER or a COMBINER between several")
        if self.implementation == "RANDOM_ABTEST" and count != 2:
            raise ValueError(f"RANDOM_ABTEST chooses between two children, not {count}")
        names = [node.name for node in self.nodes()]
        if len(names) > MOST_NODES:
            raise ValueError(f"a graph has at most {MOST_NODES} nodes")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two nodes are called {twice}")
        return self
