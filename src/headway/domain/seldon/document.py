"""A whole SeldonDeployment: one ModelDeployment for each predictor, with its share of the traffic."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from headway.domain.errors import InvalidInput
from headway.domain.names import MODEL_NAME
from headway.domain.quantities import canonical_bytes, canonical_millicores
from headway.domain.routing_table import WEIGHT_TOTAL
from headway.domain.seldon.annotations import duration, read_annotations
from headway.domain.seldon.containers import Components, components
from headway.domain.seldon.graph import Built, Folders, GraphReader
from headway.domain.seldon.reading import Fields, Notes, unsupported, wrong
from headway.domain.spec import API_VERSION, KIND, parse

GROUP: Final = "machinelearning.seldon.io/"
VERSIONS: Final = ("v1", "v1alpha2", "v1alpha3")
PROTOCOLS: Final = ("seldon", "kfserving", "v2")
ORCHESTRATOR_ENV: Final = ("SELDON_LOG_LEVEL", "SELDON_ENABLE_ROUTING_INJECTION", "SELDON_EXECUTOR_ENABLED")

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Translation:
    """ModelDeployment documents that say the same, and what will be done in another way."""

    documents: list[Document]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class _Predictor:
    where: str
    name: str
    traffic: int | None
    shadow: bool
    version: dict[str, Any]
    """The version-level part of ``spec``."""
    scaling: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Around:
    """What holds for every predictor of a document."""

    name: str
    annotations: Mapping[str, Mapping[str, str]]
    replicas: int | None
    folders: Folders
    notes: Notes


def is_seldon(data: object) -> bool:
    """Whether ``data`` means to be a SeldonDeployment."""
    return isinstance(data, Mapping) and (
        data.get("kind") == "SeldonDeployment" or str(data.get("apiVersion")).startswith(GROUP)
    )


def translate(data: object, folders: Folders) -> Translation:
    """What the SeldonDeployment ``data`` is here; ``folders`` knows where its containers' code lies.

    Raises ``Unsupported`` for what cannot be honoured, ``InvalidSpec`` for what is no SeldonDeployment; ``where`` is
    the path in the document.
    """
    top, notes = Fields(data, ""), Notes()
    version = top.text("apiVersion")
    if version not in [f"{GROUP}{one}" for one in VERSIONS]:
        unsupported("apiVersion", f"{str(version)[:80]} is not supported", f"{GROUP}{', '.join(VERSIONS)}")
    if top.text("kind") != "SeldonDeployment":
        wrong("kind", "must be SeldonDeployment")
    metadata = top.part("metadata") or Fields({}, "metadata")
    name = metadata.text("name")
    if name is None or not MODEL_NAME.fullmatch(name):
        hint = "1 to 40 lowercase letters, digits and dashes; it is the model's name here"
        wrong("metadata.name", f"{str(name)[:60]!r} is not a model name", hint)
    spec = top.part("spec")
    if spec is None:
        wrong("spec", "this field is required")
    top.drop("status")
    top.done()
    metadata.drop("labels")
    annotations: dict[str, Mapping[str, str]] = {"metadata.annotations": metadata.words("annotations")}
    predictors = _predictors(spec, name, annotations, folders, notes)
    return Translation(_documents(name, predictors), notes.found)


def _predictors(
    spec: Fields, name: str, annotations: dict[str, Mapping[str, str]], folders: Folders, notes: Notes
) -> list[_Predictor]:
    spec.drop("name")
    spec.refuse(
        oauth_key="headway token create makes tokens",
        oauth_secret="headway token create makes tokens",  # noqa: S106 (words)
    )
    server_type = spec.text("serverType") or "rpc"
    if server_type != "rpc":
        unsupported(
            spec.at("serverType"), f"servers of type {server_type[:40]} are not supported", "rpc; or see spec.jobs"
        )
    protocol = spec.text("protocol") or "seldon"
    if protocol not in PROTOCOLS:
        unsupported(spec.at("protocol"), f"the protocol {protocol[:40]} is not supported", ", ".join(PROTOCOLS))
    transport = spec.text("transport") or "rest"
    if transport != "rest":
        unsupported(spec.at("transport"), f"the transport {transport[:40]} is not supported", "models answer by REST")
    annotations["spec.annotations"] = spec.words("annotations")
    around = _Around(name, annotations, spec.whole("replicas"), folders, notes)
    parts = spec.parts("predictors")
    if not parts:
        wrong(spec.at("predictors"), "a SeldonDeployment needs a predictor")
    found = [_predictor(part, around) for part in parts]
    spec.done()
    names = [one.name for one in found]
    for position, one in enumerate(found):
        if names.index(one.name) != position:
            wrong(f"{one.where}.name", f"two predictors are called {one.name[:60]}")
    return found


def _predictor(fields: Fields, around: _Around) -> _Predictor:
    notes = around.notes
    name = fields.text("name")
    if name is None:
        wrong(fields.at("name"), "this field is required")
    fields.refuse(
        explainer="deploy the explainer as a model of its own",
        ssl="put a proxy with your certificate in front of the gateway",
    )
    places = {**around.annotations, fields.at("annotations"): fields.words("annotations")}
    annotated = read_annotations(places, notes)
    labels = fields.words("labels")
    of_containers = components(fields, notes)
    graph = fields.part("graph")
    if graph is None:
        wrong(fields.at("graph"), "this field is required")
    built = GraphReader(of_containers, around.folders, annotated.folders, notes).read(graph)
    replicas = _replicas(fields, of_containers, around)
    _orchestrator(fields, replicas, notes)
    version = _version(built, of_containers, _identity(around.name, name, built, labels))
    if annotated.timeout_s is not None:
        version["server"] = {"timeout": duration(annotated.timeout_s)}
    patience_s = fields.whole("progressDeadlineSeconds", 1)
    if patience_s is not None and "startup" not in version.get("probes", {}):
        version.setdefault("probes", {})["startup"] = {"failureThreshold": patience_s}
    traffic, shadow = fields.whole("traffic"), fields.flag("shadow")
    fields.done()
    return _Predictor(fields.path, name, traffic, shadow, version, _scaling(of_containers, replicas, fields, notes))


def _replicas(fields: Fields, found: Components, around: _Around) -> int:
    stated = fields.whole("replicas")
    own = found.replicas if found.replicas is not None else stated if stated is not None else around.replicas
    return 1 if own is None else own


def _orchestrator(fields: Fields, replicas: int, notes: Notes) -> None:
    """``svcOrchSpec`` and its older form: a process that is not there."""
    if fields.take("engineResources"):
        notes.add(fields.at("engineResources"), "no process orchestrates; the model server runs graphs itself")
    spec = fields.part("svcOrchSpec")
    if spec is None:
        return
    if spec.take("resources"):
        notes.add(spec.at("resources"), "no process orchestrates; the model server runs graphs itself")
    for variable in spec.parts("env"):
        name = variable.text("name")
        if name not in ORCHESTRATOR_ENV:
            hint = "variables of the model stand at its container"
            unsupported(variable.at("name"), f"{str(name)[:60]} of the orchestrator is not supported", hint)
        notes.add(variable.path, "no process orchestrates; this changes nothing")
    own = spec.whole("replicas")
    if own not in (None, replicas):
        unsupported(spec.at("replicas"), "no process orchestrates, so it has no replicas of its own")
    spec.done()


def _identity(deployment: str, predictor: str, built: Built, labels: Mapping[str, str]) -> list[dict[str, str]]:
    """Variables that Seldon sets for its wrapper; ``metrics.compat: seldon`` takes its labels from them."""
    found = {"SELDON_DEPLOYMENT_ID": deployment, "PREDICTOR_ID": predictor, "PREDICTIVE_UNIT_ID": built.unit}
    if built.image:
        found["PREDICTIVE_UNIT_IMAGE"] = built.image
    if labels:
        found["PREDICTOR_LABELS"] = json.dumps(dict(sorted(labels.items())))
    return [{"name": name, "value": value} for name, value in found.items()]


def _version(built: Built, found: Components, identity: list[dict[str, str]]) -> dict[str, Any]:
    section: dict[str, Any] = {**built.section}
    taken = {variable["name"] for variable in identity}
    for name, value, where in found.env():
        if name in taken:
            unsupported(f"{where}.env", f"{name} is set from the document's own names", "leave it out")
        identity.append({"name": name, "value": value})
    section["env"] = identity
    asked, resources = found.asked, {}
    if asked.cpu:
        resources["cpu"] = canonical_millicores(asked.cpu)
    if asked.memory_limit:
        resources["memory"] = canonical_bytes(asked.memory_limit)
    if resources:
        section["resources"] = resources
    if built.payloads:
        section["queryLog"] = {"payloads": {"sample": "100%"}}
    section["metrics"] = {"compat": "seldon"}
    probes = found.probes()
    if probes:
        section["probes"] = probes
    if found.grace_s is not None:
        section["terminationGracePeriodSeconds"] = found.grace_s
    return section


def _scaling(found: Components, replicas: int, fields: Fields, notes: Notes) -> dict[str, Any]:
    if found.scaling is None:
        return {"minReplicas": replicas}
    where, scaling = found.scaling
    if replicas != max(1, scaling["minReplicas"]):
        notes.add(fields.at("replicas"), f"{where} moves the number of replicas, beginning with its least")
    return scaling


def _documents(name: str, predictors: Sequence[_Predictor]) -> list[Document]:
    shares = _shares(predictors)
    first = predictors[0]
    found = []
    for predictor, share in zip(predictors, shares, strict=True):
        if predictor.scaling != first.scaling:
            unsupported(
                predictor.where,
                f"predictor {predictor.name[:60]} has other replicas or another policy than {first.name[:60]}",
                "a model has one policy for all its versions, each with a count of its own: state the same in all, or "
                "deploy two models",
            )
        spec = {**predictor.version, "scaling": predictor.scaling}
        if share is not None:
            spec["arm"] = share
        document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
        try:
            parse(document)
        except InvalidInput as error:
            wrong(predictor.where, f"what it is here breaks a rule: {error.where}: {error.message}", error.hint)
        found.append(document)
    return found


def _shares(predictors: Sequence[_Predictor]) -> list[dict[str, int] | None]:
    serving = [one for one in predictors if not one.shadow]
    shadows = [one for one in predictors if one.shadow]
    if not serving:
        wrong("spec.predictors", "every predictor is a shadow; one has to serve")
    if len(shadows) > 1:
        unsupported(f"{shadows[1].where}.shadow", "a model has one shadow at most")
    for one in predictors:
        if one.traffic is not None and one.traffic > WEIGHT_TOTAL:
            wrong(f"{one.where}.traffic", f"must be at most {WEIGHT_TOTAL}")
    if len(serving) == 1:
        alone = serving[0]
        if alone.traffic not in (None, WEIGHT_TOTAL, 0):
            wrong(f"{alone.where}.traffic", "the only predictor that serves gets all of it", f"traffic: {WEIGHT_TOTAL}")
        weights = {alone.name: WEIGHT_TOTAL}
    else:
        weights = {one.name: one.traffic or 0 for one in serving}
        total = sum(weights.values())
        if total != WEIGHT_TOTAL:
            wrong("spec.predictors", f"the traffic of the predictors sums to {total}, not {WEIGHT_TOTAL}")
    if len(predictors) == 1:
        return [None]
    return [
        {"shadow": one.traffic or WEIGHT_TOTAL} if one.shadow else {"weight": weights[one.name]} for one in predictors
    ]
