"""From what a user names, a folder or a document, to what is deployed: a document and a bundle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headway.client.mlflow_folder import MLMODEL, Prepared, prepare
from headway.client.mlflow_source import Fetched, is_uri
from headway.client.pack import DOCUMENT_NAMES, Bundle, gather, scan
from headway.domain.deployments import Source
from headway.domain.errors import InvalidBundle, InvalidInput, InvalidName, InvalidSpec
from headway.domain.names import MODEL_NAME, check_model_name
from headway.domain.spec import ModelDeployment, default_document, parse
from headway.domain.spec_document import MAX_BYTES, parse_document

ARTIFACTS = (".joblib", ".pkl", ".onnx")
"""Files that the model server can serve without code."""


@dataclass(frozen=True, slots=True)
class Deployable:
    """A document and the files that belong to it."""

    document: ModelDeployment
    bundle: Bundle
    mlflow: Prepared | None = None
    """What is known of it as an MLflow model; None: it is none."""
    source: Source | None = None
    """Where the files were fetched from; None: they lay here."""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.document.metadata.name

    def spec(self) -> dict[str, Any]:
        """The document as it is sent: only what it states, so that what it leaves open stays as it is."""
        return self.document.model_dump(by_alias=True, exclude_unset=True, mode="json")


def from_folder(folder: Path, name: str | None = None, spec: Mapping[str, Any] | None = None) -> Deployable:
    """The deployable of a folder: by its ``headway.yaml`` if there is one, else with every default.

    ``name`` overrides the document's; without either the folder's own name is taken. ``spec`` is laid over the
    document's. Raises ``InvalidBundle``, ``InvalidSpec``, ``InvalidName`` and what else a document is refused with.
    """
    if name is not None:
        check_model_name(name, where="--name")
    present = [folder / one for one in DOCUMENT_NAMES if (folder / one).exists()]
    if len(present) > 1:
        raise InvalidSpec(f"{folder} holds both {' and '.join(DOCUMENT_NAMES)}", hint="keep one of them")
    if present:
        return from_document(present[0], name, spec)
    bundle = scan(folder)
    return _checked(Deployable(_laid_over(default_document(name or _name_of(bundle.folder.name)), spec), bundle))


def from_source(
    found: Fetched, name: str | None, spec: Mapping[str, Any] | None, document: ModelDeployment | None = None
) -> Deployable:
    """The deployable of a model that was fetched from an MLflow server.

    ``document`` is the one that names it; without one a ``headway.yaml`` that was logged with the model counts.
    """
    if document is not None:
        return _checked(Deployable(document, scan(found.folder), source=found.source))
    documents = [found.folder / one for one in DOCUMENT_NAMES if (found.folder / one).exists()]
    named = name or (None if documents else _name_of(found.name))
    return replace(from_folder(found.folder, named, spec), source=found.source)


def from_document(path: Path, name: str | None = None, spec: Mapping[str, Any] | None = None) -> Deployable:
    """The deployable of a document; its ``spec.model.path`` counts from the folder it lies in."""
    document = read_document(path)
    if name is not None:
        document = document.model_copy(update={"metadata": document.metadata.model_copy(update={"name": name})})
    return with_files(_laid_over(document, spec), path)


def with_files(document: ModelDeployment, path: Path) -> Deployable:
    """``document``, which lies at ``path``, with the files that it names. Raises ``InvalidBundle``."""
    graph = document.spec.graph
    if is_uri(document.spec.model.path):
        raise InvalidInput(
            f"the model lies elsewhere: {document.spec.model.path[:200]}",
            where=f"{path}: spec.model.path",
            hint="headway apply and headway diff fetch what a document names so, headway deploy a URI",
        )
    if graph is None:
        return _checked(Deployable(document, scan(path.parent / document.spec.model.path, document=path)))
    folders = {node.name: path.parent / node.folder for node in graph.nodes() if node.folder is not None}
    bundle = gather(path.parent, folders, document=path)
    for node in graph.nodes():
        if node.folder is not None and node.implementation is None:
            check_code(bundle, f"{node.name}/", node.entrypoint, f"node {node.name}")
    return Deployable(document, bundle)


def check_code(bundle: Bundle, prefix: str, entrypoint: str | None, whose: str) -> None:
    """Raise ``InvalidBundle`` unless the module that ``entrypoint`` names (left out: ``model.py``) is there."""
    module = (entrypoint or "model:").partition(":")[0].replace(".", "/")
    if not (bundle.holds(f"{prefix}{module}.py") or bundle.holds(f"{prefix}{module}/__init__.py")):
        raise InvalidBundle(
            f"{whose}: its folder holds no {module}.py",
            hint="name its code as entrypoint, module:Class" if entrypoint is None else None,
        )


def read_document(path: Path) -> ModelDeployment:
    """The document in the file ``path``."""
    return parse_document(text_of(path), str(path))


def _laid_over(document: ModelDeployment, spec: Mapping[str, Any] | None) -> ModelDeployment:
    """``document`` with the fields of ``spec``, mappings merged field by field. Raises ``InvalidSpec``."""
    if not spec:
        return document
    stated = document.model_dump(by_alias=True, exclude_unset=True, mode="json")
    return parse({**stated, "spec": _merged(stated.get("spec", {}), spec)})


def _merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}


def text_of(path: Path) -> str:
    """The text of a document. Raises ``InvalidSpec``."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InvalidSpec("the document is larger than 1 MiB", where=str(path))
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"the document is not UTF-8 text: byte {error.start + 1}", where=str(path)) from None
    except OSError as error:
        raise InvalidSpec(f"the document cannot be read: {error.strerror or error}", where=str(path)) from None


def _name_of(called: str) -> str:
    """``Iris_Model`` -> ``iris-model``."""
    name = re.sub(r"[^a-z0-9]+", "-", called.lower()).strip("-")
    if not MODEL_NAME.fullmatch(name):
        raise InvalidName(f"the name {called[:60]!r} cannot be made the model's name", hint="give one with --name")
    return name


def _checked(found: Deployable) -> Deployable:
    """What would certainly fail later is refused before anything is uploaded."""
    model, bundle = found.document.spec.model, found.bundle
    module = (model.entrypoint or "model:").partition(":")[0].replace(".", "/")
    if not (bundle.holds(f"{module}.py") or bundle.holds(f"{module}/__init__.py")):
        if model.entrypoint is not None:
            raise InvalidBundle(
                f"{bundle.folder} holds no {module}.py, which spec.model.entrypoint names",
                where="spec.model.entrypoint",
            )
        if not bundle.holds("model.R") and bundle.holds(MLMODEL):
            prepared = prepare(bundle)
            found, bundle = replace(found, bundle=prepared.bundle, mlflow=prepared), prepared.bundle
        elif not bundle.holds("model.R"):
            _check_artifact(bundle)
    if model.sample is not None and not bundle.holds(model.sample):
        raise InvalidBundle(f"{bundle.folder} holds no {model.sample}", where="spec.model.sample")
    return found


def _check_artifact(bundle: Bundle) -> None:
    """Without code, the folder must hold exactly one model file; the server loads it."""
    files = [e.file.path for e in bundle.files if "/" not in e.file.path and e.file.path.endswith(ARTIFACTS)]
    if not files:
        raise InvalidBundle(
            f"{bundle.folder} holds no model.py, no model.R and no model file",
            hint="headway init makes one to start with; or name another module in spec.model.entrypoint",
        )
    if len(files) > 1:
        raise InvalidBundle(
            f"{bundle.folder} holds several model files: {', '.join(files[:5])}",
            hint="leave one of them, or write a model.py that loads the right ones",
        )
