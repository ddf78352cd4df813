"""Objects against the schemas that a cluster would hold them against.

Built-in kinds: the official schemas, through kubernetes-validate, of the oldest and the newest release that we name.
Custom kinds: their CustomResourceDefinition, read as the API server reads it, and stricter: an unknown field, which it
would drop, is an error here.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from headway.cluster.crds import crds
from headway.cluster.names import GROUP

ROOT = Path(__file__).parents[3]
OLDEST = "1.30"
NEWEST = kubernetes_validate.latest_version()
FOREIGN_GROUPS = ("gateway.networking.k8s.io", "traefik.io", "keda.sh")


def crd_folder() -> Path | None:
    """Where CustomResourceDefinitions of Gateway API, Traefik and KEDA lie, if they are there."""
    named = os.environ.get("HEADWAY_TEST_CRDS")
    candidates = [Path(named)] if named else [ROOT.parent / "shared" / "crds", ROOT.parent.parent / "shared" / "crds"]
    return next((folder for folder in candidates if folder.is_dir()), None)


def is_foreign(one: dict[str, Any]) -> bool:
    """Whether its schema is somebody else's, and so perhaps not here."""
    return group_of(one) in FOREIGN_GROUPS


def group_of(one: dict[str, Any]) -> str:
    group, _, version = one["apiVersion"].rpartition("/")
    return str(group if version else "")


def check(one: dict[str, Any]) -> None:
    """Raise unless ``one`` fits the schema of its kind."""
    if is_foreign(one) or group_of(one) == GROUP:
        _validator(one["apiVersion"], one["kind"]).validate(one)
        return
    for release in (OLDEST, NEWEST):
        kubernetes_validate.validate(one, release, strict=True)


@functools.cache
def _validator(api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    group, _, version = api_version.rpartition("/")
    for crd in [*crds(), *_foreign()]:
        if crd["spec"]["group"] == group and crd["spec"]["names"]["kind"] == kind:
            schema = next(one for one in crd["spec"]["versions"] if one["name"] == version)
            return jsonschema.Draft202012Validator(as_json_schema(schema["schema"]["openAPIV3Schema"], root=True))
    raise LookupError(f"no definition of {kind} in {api_version}")


@functools.cache
def _foreign() -> list[dict[str, Any]]:
    folder = crd_folder()
    files = sorted(folder.glob("*.yaml")) if folder is not None else []
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [one for path in files for one in yaml.load_all(path.read_text("utf-8"), Loader=loader) if one]


def as_json_schema(node: dict[str, Any], *, root: bool = False) -> dict[str, Any]:
    """An OpenAPI v3 schema as the JSON Schema that means the same."""
    found = {key: value for key, value in node.items() if key in PLAIN}
    if node.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    for bound, excluded in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if bound in node:
            found[excluded if node.get(excluded) else bound] = node[bound]
    if "items" in node:
        found["items"] = as_json_schema(node["items"])
    for key in ("allOf", "anyOf", "oneOf"):
        if key in node and not node.get("x-kubernetes-int-or-string"):
            found[key] = [as_json_schema(one) if "properties" not in one else _value_only(one) for one in node[key]]
    if "properties" in node:
        found["properties"] = {name: as_json_schema(field) for name, field in node["properties"].items()}
        if root:  # every object has these, whether its schema says so or not
            found["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
        if not node.get("x-kubernetes-preserve-unknown-fields"):
            found["additionalProperties"] = False
    elif isinstance(node.get("additionalProperties"), dict):
        found["additionalProperties"] = as_json_schema(node["additionalProperties"])
    if node.get("nullable") and "type" in found:
        types = found["type"] if isinstance(found["type"], list) else [found["type"]]
        found["type"] = [*types, "null"]
    return found


PLAIN = {
    *("type", "enum", "pattern", "required", "uniqueItems"),
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
}


def _value_only(node: dict[str, Any]) -> dict[str, Any]:
    """Below ``anyOf`` a schema names fields without closing the object."""
    found = as_json_schema(node)
    found.pop("additionalProperties", None)
    return found
