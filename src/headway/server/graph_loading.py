"""From the folders of a bundle to a loaded graph: each node's code imported, made and loaded by itself.

All nodes run in one interpreter, and their files may have the same names: every ``model.py`` is called ``model``. So a
node is loaded while its folder is the place where code is at home, and its modules are forgotten by the interpreter
afterwards (the objects keep them). What a node imports only when it is asked is looked for in all folders, in the order
of the graph.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from headway.domain.errors import LoadFailed
from headway.server.graph import Graph, GraphModel, nodes_of
from headway.server.graph_nodes import BUILT_IN, METHODS, Node
from headway.server.graph_spec import GraphNode
from headway.server.loading import guard, load_subject
from headway.server.mlflow_model import MlflowModel
from headway.server.model import InputKind
from headway.server.prepackaged import SklearnServer, XgboostServer

Loaded = tuple[Any, InputKind | None]


def load_graph(bundle: Path, spec: GraphNode, *, stage: Callable[[str], None]) -> GraphModel:
    """The graph that ``spec`` describes. Raises ``LoadFailed`` that names the node's file, or the node."""
    stage("import")
    graph = Graph(_node(bundle, spec, stage))
    sys.path += [str(bundle / node.name) for node in nodes_of(graph.root) if (bundle / node.name).is_dir()]
    return GraphModel(graph, bundle)


def _node(bundle: Path, spec: GraphNode, stage: Callable[[str], None]) -> Node:
    folder = bundle / spec.name
    made = BUILT_IN.get(spec.implementation or "")
    if made is not None:
        subject = guard(lambda: made(**spec.parameters), bundle, f"making {spec.implementation}")
        node = Node(spec, subject)
    else:
        if not folder.is_dir():
            raise LoadFailed(f"the bundle holds no folder for node {spec.name}", where=spec.name)
        modules: list[ModuleType] = []
        with at_home(folder, modules):
            subject, kind = _load(folder, bundle, spec, stage)
            node = Node(spec, subject, kind)
        node.modules = tuple(modules)
    node.children = tuple(_node(bundle, child, stage) for child in spec.children)
    return node


def _load(folder: Path, bundle: Path, spec: GraphNode, stage: Callable[[str], None]) -> Loaded:
    arguments: dict[str, Any] = dict(spec.parameters)
    match spec.implementation:
        case "SKLEARN_SERVER":
            served = guard(lambda: SklearnServer(folder, **arguments), bundle, f"loading {spec.name}")
            return served, served.kind
        case "XGBOOST_SERVER":
            return guard(lambda: XgboostServer(folder, **arguments), bundle, f"loading {spec.name}"), None
        case "MLFLOW_SERVER":
            model = guard(lambda: MlflowModel(folder, **arguments), bundle, f"loading {spec.name}")
            return model, model.kind
    method = METHODS[spec.type]
    name, subject = load_subject(folder, bundle, spec.entrypoint, stage=stage, method=method, arguments=arguments)
    load = getattr(subject, "load", None)
    if callable(load):
        guard(load, bundle, f"{name}.load()")
    return subject, None


@contextlib.contextmanager
def at_home(folder: Path, modules: list[ModuleType]) -> Iterator[None]:
    """Make ``folder`` the place where code is at home; what is imported from it goes to ``modules`` afterwards."""
    here, root = os.getcwd(), os.path.realpath(folder) + os.sep
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        os.chdir(here)
        sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None)
            if path is not None and os.path.realpath(path).startswith(root):
                modules.append(sys.modules.pop(name))
