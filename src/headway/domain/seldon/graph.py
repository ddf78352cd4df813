"""A predictor's ``graph``: as one model where it is one, else as ``spec.graph``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol, get_args

from headway.domain.graph_spec import BUILT_IN, SERVERS, NodeType
from headway.domain.seldon.containers import Components, Container, image_names
from headway.domain.seldon.reading import Fields, Notes, unsupported, wrong

TYPES: Final = get_args(NodeType)
METHODS: Final = {
    "TRANSFORM_INPUT": "TRANSFORMER",
    "TRANSFORM_OUTPUT": "OUTPUT_TRANSFORMER",
    "ROUTE": "ROUTER",
    "AGGREGATE": "COMBINER",
}
"""The type that has the method; ``SEND_FEEDBACK`` every node may have."""
PATH: Final = "headway.dev/path"
ENTRYPOINT: Final = "headway.dev/entrypoint"
REMOTE: Final = {"gs": "gsutil cp -r", "s3": "aws s3 cp --recursive", "http": "a browser", "https": "a browser"}
OTHER_SERVERS: Final = (
    "TENSORFLOW_SERVER",
    "TRITON_SERVER",
    "HUGGINGFACE_SERVER",
    "TEMPO_SERVER",
    "ALIBI_DETECT_SERVER",
)


class Folders(Protocol):
    """Where the code of containers lies; whoever has a file system knows it."""

    def of(self, *names: str) -> str | None:
        """The folder that was given for the first of ``names`` that one was given for."""
        ...

    def entrypoint(self, folder: str) -> str | None:
        """What has to be named as the entry point of the code in ``folder``; None where it is found by itself."""
        ...


@dataclass
class Built:
    """``model`` or ``graph`` of a version, and what goes with it."""

    section: dict[str, Any]
    unit: str
    """The node that stands for the whole: the first model."""
    image: str | None
    payloads: bool = False
    """Whether a logger asks for requests and answers."""


class GraphReader:
    """Reads one predictor's graph."""

    def __init__(self, components: Components, folders: Folders, annotations: Mapping[str, str], notes: Notes) -> None:
        self._containers = components.containers
        self._folders = folders
        self._annotations = annotations
        self._notes = notes
        self._seen: list[str] = []
        self._own: list[str] = []
        self._first: tuple[str, str | None] | None = None
        self.payloads = False

    def read(self, graph: Fields) -> Built:
        """``spec.model`` for a lone model without parameters, ``spec.graph`` for anything else."""
        node = self._node(graph)
        for name, container in self._containers.items():
            if name not in self._seen:
                unsupported(
                    f"{container.where}.name",
                    f"container {name[:60]} is no node of the graph; containers beside the model are not run",
                    f"nodes: {', '.join(self._seen)}",
                )
        if PATH in self._annotations and len(self._own) != 1:
            wrong(PATH, f"{PATH} needs the name of a node behind it", f"{PATH}.{(self._own or self._seen)[0]}")
        unit, image = self._first or (node["name"], None)
        lone = node["type"] == "MODEL" and not {"implementation", "parameters", "children"} & node.keys()
        if lone:
            model = {key: node[key] for key in ("path", "entrypoint") if key in node}
            return Built({"model": model}, unit, image, self.payloads)
        return Built({"graph": node}, unit, image, self.payloads)

    def _node(self, fields: Fields) -> dict[str, Any]:
        name = fields.text("name")
        if name is None:
            wrong(fields.at("name"), "this field is required")
        if name in self._seen:
            wrong(fields.at("name"), f"two nodes are called {name[:60]}")
        self._seen.append(name)
        container = self._containers.get(name)
        implementation = fields.text("implementation")
        if implementation in ("", "UNKNOWN_IMPLEMENTATION"):
            implementation = None
        if implementation in OTHER_SERVERS or (
            implementation is not None and implementation not in (*BUILT_IN, *SERVERS)
        ):
            unsupported(
                fields.at("implementation"),
                f"{implementation[:60]} is not supported",
                f"{', '.join((*SERVERS, *BUILT_IN))}, or a model of your own that loads the files",
            )
        node: dict[str, Any] = {"name": name, "type": self._type(fields, implementation)}
        if implementation is not None:
            node["implementation"] = implementation
        if node["type"] == "MODEL" and self._first is None:
            self._first = (name, container.image if container is not None else None)
        self._place(fields, node, container)
        parameters = self._parameters(fields)
        if parameters:
            node["parameters"] = parameters
        self._around(fields)
        children = [self._node(child) for child in fields.parts("children")]
        if children:
            node["children"] = children
        fields.done()
        return node

    def _type(self, fields: Fields, implementation: str | None) -> str:
        stated = fields.text("type")
        if stated in ("", "UNKNOWN_TYPE"):
            stated = None
        methods = fields.take("methods") or []
        by_method = [METHODS[m] for m in methods if m in METHODS] if isinstance(methods, list) else []
        if stated is None and implementation is not None:
            stated = BUILT_IN.get(implementation, "MODEL")
        if stated is None and len(by_method) == 1:
            stated = by_method[0]
        if any(one != stated for one in by_method):
            unsupported(
                fields.at("methods"), "methods of another type than the node's are not supported", "one node each"
            )
        if stated is None:
            wrong(fields.at("type"), "this field is required", ", ".join(TYPES))
        if stated not in TYPES:
            unsupported(fields.at("type"), f"nodes of type {stated[:40]} are not supported", ", ".join(TYPES))
        return stated

    def _place(self, fields: Fields, node: dict[str, Any], container: Container | None) -> None:
        name, uri = node["name"], fields.text("modelUri")
        implementation = node.get("implementation")
        if implementation in BUILT_IN:
            if uri:
                wrong(fields.at("modelUri"), f"{implementation} has no files")
            return
        names = [name, *image_names(container.image if container is not None else None)]
        folder = self._folders.of(*names) or self._annotations.get(f"{PATH}.{name}")
        self._own.append(name)
        if folder is None:
            folder = self._annotations.get(PATH)
        if implementation is not None:
            node["path"] = folder or local_folder(uri, fields.at("modelUri"), name)
            return
        if folder is None:
            self._refuse_image(fields, name, container)
        if uri:
            unsupported(
                fields.at("modelUri"),
                "modelUri is for prepackaged servers",
                "put the files into the folder of the code",
            )
        node["path"] = folder
        entrypoint = self._annotations.get(f"{ENTRYPOINT}.{name}") or self._annotations.get(ENTRYPOINT)
        if entrypoint is None and container is not None and container.interface:
            module, _, attribute = container.interface.rpartition(".")
            entrypoint = f"{module or attribute}:{attribute}"
        entrypoint = entrypoint or self._folders.entrypoint(folder)
        if entrypoint is not None:
            node["entrypoint"] = entrypoint

    def _refuse_image(self, fields: Fields, name: str, container: Container | None) -> NoReturn:
        hint = f"give the folder of its code: --model {name}=DIR, or the annotation {PATH}.{name}: DIR"
        if container is not None and container.image:
            unsupported(f"{container.where}.image", f"the image {container.image[:100]} cannot run here", hint)
        unsupported(fields.path, f"node {name[:60]} has neither an implementation nor a folder", hint)

    def _parameters(self, fields: Fields) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for parameter in fields.parts("parameters"):
            name, value = parameter.text("name"), parameter.take("value")
            kind = (parameter.text("type") or "STRING").upper()
            parameter.done()
            if name is None or value is None:
                wrong(parameter.path, "a parameter needs name and value")
            if name in found:
                wrong(parameter.at("name"), f"{name[:60]} is set twice")
            found[name] = typed(
                str(value).lower() if isinstance(value, bool) else str(value), kind, parameter.at("value")
            )
        return found

    def _around(self, fields: Fields) -> None:
        """What says how to reach, watch or feed a node."""
        endpoint = fields.part("endpoint")
        if endpoint is not None:
            if (endpoint.text("type") or "REST").upper() != "REST":
                unsupported(endpoint.at("type"), "nodes are called in one process, and clients by REST", "type: REST")
            endpoint.drop("service_host", "service_port", "serviceHost", "servicePort", "httpPort", "grpcPort")
            endpoint.done()
        logger = fields.part("logger")
        if logger is not None:
            if logger.text("url"):
                unsupported(logger.at("url"), "payloads are not sent to a URL", "without it they go to the query log")
            mode = logger.text("mode") or "all"
            logger.done()
            self.payloads = True
            also = "" if mode == "all" else f" (not only each {mode})"
            self._notes.add(
                logger.path, f"requests and answers{also} are kept in the query log: spec.queryLog.payloads"
            )
        fields.refuse(
            envSecretRefName="fetch the files first, and name their folder",
            serviceAccountName="fetch the files first, and name their folder",
            storageInitializerImage="fetch the files first, and name their folder",
        )


def local_folder(uri: str | None, where: str, name: str) -> str:
    """The folder that a ``modelUri`` names on this machine."""
    if not uri:
        wrong(where, "this field is required", f"a folder, or --model {name}=DIR")
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    if scheme == "file" and rest.startswith("/"):
        return rest
    fetch = f"fetch it, for example with {REMOTE[scheme]}; then " if scheme in REMOTE else ""
    hint = f"{fetch}name the folder: --model {name}=DIR, or modelUri: file:///…"
    return unsupported(where, f"{scheme[:20]}:// cannot be read here", hint)


def typed(text: str, kind: str, where: str) -> bool | int | float | str:
    """A parameter's value, as its type says."""
    try:
        if kind == "INT":
            return int(text)
        if kind in ("FLOAT", "DOUBLE"):
            return float(text)
    except ValueError:
        wrong(where, f"{text[:40]!r} is no {kind}")
    if kind == "BOOL":
        if text.lower() not in ("true", "false", "1", "0"):
            wrong(where, f"{text[:40]!r} is no BOOL", "true or false")
        return text.lower() in ("true", "1")
    if kind != "STRING":
        wrong(where, f"unknown type {kind[:20]}", "STRING, INT, FLOAT, DOUBLE or BOOL")
    return text
