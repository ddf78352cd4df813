"""Inference graphs: requests on their way through a tree of nodes, in this process.

A node is asked in three places, as Seldon's orchestrator does: on the way in (MODEL: ``predict``, TRANSFORMER:
``transform_input``), between its children (ROUTER: ``route`` before them, COMBINER: ``aggregate`` after them) and on
the way out (OUTPUT_TRANSFORMER: ``transform_output``). A node without ``aggregate`` answers what its first child does.

Requests that share a call go through the graph together, row below row. A router is asked about each request alone and
parts them; whoever meets the same child goes on together, and all are put back in the order in which they came. A node
that does not answer row by row ends that: :class:`~headway.server.results.NotSplittable`, and each request goes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headway.server.feedback_message import Lesson
from headway.server.graph_nodes import ALL, Node, as_kind, told
from headway.server.inputs import Form, Inputs, Trail
from headway.server.model import InputKind, LoadedModel
from headway.server.results import NotSplittable, row_count, split

Names = Sequence[str] | None


class Flow:
    """Rows of some requests at one place of the graph, each request with its trail."""

    __slots__ = ("each_names", "names", "sizes", "trails", "values")

    def __init__(
        self,
        values: Any,
        names: Names,
        sizes: Sequence[int],
        trails: Sequence[Trail],
        each_names: Sequence[Names] | None = None,
    ) -> None:
        self.values = values
        self.names = names
        self.sizes = sizes
        self.trails = trails
        self.each_names = each_names
        """Names of the columns request by request, where they differ; else None."""

    def with_values(self, values: Any, names: Names) -> Flow:
        """The same requests, with what a node made of them. Raises ``NotSplittable``."""
        if len(self.trails) == 1:
            found = row_count(values)
            return Flow(values, names, (1 if found is None else found,), self.trails)
        total = sum(self.sizes)
        if row_count(values) != total:
            raise NotSplittable(f"{total} rows in, {type(values).__name__} out")
        return Flow(values, names, self.sizes, self.trails)

    def each(self) -> list[Flow]:
        """Request by request."""
        if len(self.trails) == 1:
            return [self]
        parts = split(self.values, self.sizes, as_lists=False)
        together = zip(parts, self.all_names(), self.sizes, self.trails, strict=True)
        return [Flow(part, names, (size,), (trail,)) for part, names, size, trail in together]

    def all_names(self) -> Sequence[Names]:
        """The names of each request."""
        return self.each_names or [self.names] * len(self.trails)


def joined(flows: Sequence[Flow]) -> Flow:
    """Flows of whole requests as one. Raises ``NotSplittable`` for what cannot be put under each other."""
    if len(flows) == 1:
        return flows[0]
    names = [one for flow in flows for one in flow.all_names()]
    differ = any(one != names[0] for one in names)
    return Flow(
        _below([flow.values for flow in flows]),
        None if differ else names[0],
        [size for flow in flows for size in flow.sizes],
        [trail for flow in flows for trail in flow.trails],
        names if differ else None,
    )


def _below(values: Sequence[Any]) -> Any:
    if all(isinstance(value, list) for value in values):
        return [row for value in values for row in value]
    if all(hasattr(value, "iloc") and hasattr(value, "columns") for value in values):
        import pandas

        if any(list(value.columns) != list(values[0].columns) for value in values):
            raise NotSplittable("children answer in different columns")
        return pandas.concat(values, ignore_index=True)
    try:
        import numpy

        return numpy.concatenate([numpy.asarray(as_kind(value, None, InputKind.ARRAY)) for value in values])
    except (ImportError, ValueError) as error:
        raise NotSplittable(f"children answer in different shapes: {error}") from None


class Graph:
    """A tree of nodes, as one model. Its parts are asked in the order of the document."""

    def __init__(self, root: Node) -> None:
        self.root = root
        if root.type == "MODEL":
            for name in ("feature_names_in_", "n_features_in_"):
                if getattr(root.subject, name, None) is not None:
                    setattr(self, name, getattr(root.subject, name))
        self._measured: list[Any] = []

    def run(self, flow: Flow) -> list[Flow]:
        """Send ``flow`` through all of it; request by request what came out. Raises what nodes raise."""
        self._measured = []
        return self._pass(self.root, flow).each()

    def predict(self, X: Any, features_names: Any = None) -> Any:  # noqa: N803
        """For one request, without its trail."""
        return self.run(Flow(X, features_names, (len(X),), (Trail(),)))[0].values

    def metrics(self) -> list[Any]:
        """What nodes measured in the latest run, each call once."""
        return self._measured

    def health_status(self) -> Any:
        """What the nodes say of their health, by name; raises what the first raises that is not well."""
        found = {node.name: told(node.subject, "health_status") for node in nodes_of(self.root)}
        return {name: one for name, one in found.items() if one is not None}

    def teach(self, lesson: Lesson) -> None:
        """Tell the nodes that took part, children before those that chose them."""
        self._teach(self.root, lesson)

    def _teach(self, node: Node, lesson: Lesson) -> None:
        chosen = lesson.routing.get(node.name, ALL)
        for index, child in enumerate(node.children):
            if chosen in (ALL, index):
                self._teach(child, lesson)
        send = getattr(node.subject, "send_feedback", None)
        if callable(send):
            lesson.give(send, lesson.routing.get(node.name))

    def _pass(self, node: Node, flow: Flow) -> Flow:
        for trail in flow.trails:
            trail.path.append(node.name)
        if node.type == "MODEL":
            flow = self._asked(node, flow, node.class_names)
        elif node.type == "TRANSFORMER":
            given = flow.names
            flow = self._asked(node, flow, lambda _: node.feature_names(given))
        if node.children:
            flow = self._below(node, flow)
        return self._asked(node, flow, node.class_names) if node.type == "OUTPUT_TRANSFORMER" else flow

    def _asked(self, node: Node, flow: Flow, names: Callable[[Any], Names]) -> Flow:
        if flow.each_names is not None and node.takes_names:
            return joined([self._asked(node, one, names) for one in flow.each()])
        values = node.call(flow.values, flow.names)
        after = flow.with_values(values, names(values))
        self._listen(node, after.trails)
        return after

    def _below(self, node: Node, flow: Flow) -> Flow:
        if node.type == "ROUTER":
            return self._routed(node, flow)
        answers = [self._pass(child, flow) for child in node.children]
        return self._combined(node, flow, answers) if node.type == "COMBINER" else answers[0]

    def _combined(self, node: Node, flow: Flow, answers: Sequence[Flow]) -> Flow:
        if node.takes_names and any(answer.each_names is not None for answer in answers):
            parts = zip(flow.each(), *(answer.each() for answer in answers), strict=True)
            return joined([self._combined(node, one, own) for one, *own in parts])
        values = node.combine([a.values for a in answers], [a.names for a in answers])
        after = flow.with_values(values, node.class_names(values) or answers[0].names)
        self._listen(node, after.trails)
        return after

    def _routed(self, node: Node, flow: Flow) -> Flow:
        requests = flow.each()
        chosen = [node.route(request.values, request.names) for request in requests]
        for request, child in zip(requests, chosen, strict=True):
            request.trails[0].routing[node.name] = child
        self._listen(node, flow.trails)
        found: dict[int, Flow] = {}
        for child in sorted(set(chosen)):
            part = joined([request for request, one in zip(requests, chosen, strict=True) if one == child])
            if child == ALL:
                answers = [self._pass(each, part) for each in node.children]
                part = answers[0]
            else:
                part = self._pass(node.children[child], part)
            found |= {id(answer.trails[0]): answer for answer in part.each()}
        return joined([found[id(request.trails[0])] for request in requests])

    def _listen(self, node: Node, trails: Sequence[Trail]) -> None:
        """What a node says of the call that it was just in, to all who shared it."""
        tags, metrics = node.tags(), node.metrics()
        self._measured.extend(metrics)
        for trail in trails:
            trail.tags.update(tags)
            trail.metrics.extend(metrics)


def nodes_of(root: Node) -> list[Node]:
    """``root`` and everything below it."""
    return [root, *(node for child in root.children for node in nodes_of(child))]


def entry_kind(node: Node) -> InputKind:
    """What the graph wants: what those nodes want that see the request first; a DataFrame if one of them does."""
    if node.type in ("MODEL", "TRANSFORMER", "ROUTER"):
        own = node.kind
        if node.type != "ROUTER" or own is InputKind.RAW:
            return own
    kinds = [entry_kind(child) for child in node.children]
    for kind in (InputKind.RAW, InputKind.FRAME):
        if kind in kinds:
            return kind
    return kinds[0] if kinds else node.kind


class GraphModel(LoadedModel):
    """A graph where a model is expected."""

    def __init__(self, graph: Graph, bundle: Path) -> None:
        super().__init__(graph, bundle, name="the graph", kind=entry_kind(graph.root))
        self._graph = graph
        if any(getattr(node.subject, "batching", True) is False for node in nodes_of(graph.root)):
            self.together = False
        if not any(callable(getattr(n.subject, "health_status", None)) for n in nodes_of(graph.root)):
            self.health_status = None

    def answer(self, x: Any, batch: Sequence[Inputs], *, as_lists: bool) -> list[Any]:
        """See :meth:`LoadedModel.answer`; every request gets its trail."""
        trails = [Trail() for _ in batch]
        sizes = [inputs.rows for inputs in batch]
        columns = None if batch[0].form is Form.WHOLE else batch[0].columns
        answers = self._graph.run(Flow(x, columns, sizes, trails))
        for inputs, trail, answer in zip(batch, trails, answers, strict=True):
            trail.names = None if answer.names is None else [*answer.names]
            inputs.trail = trail
        return [a.values.tolist() if as_lists and hasattr(a.values, "tolist") else a.values for a in answers]

    @property
    def teachable(self) -> bool:
        """Whether one of its nodes is."""
        return any(callable(getattr(n.subject, "send_feedback", None)) for n in nodes_of(self._graph.root))

    def teach(self, lesson: Lesson) -> None:
        """See :meth:`LoadedModel.teach`."""
        self._graph.teach(lesson)
