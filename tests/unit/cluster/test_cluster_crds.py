"""The custom resource definitions: valid, structural, and true to the documents that they stand for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from headway.cluster.crds import crds
from headway.cluster.structural import structural
from tests.unit.cluster import schemas
from tests.unit.cluster.cases import CASES, documents

CRDS = crds()
KINDS = [crd["spec"]["names"]["kind"] for crd in CRDS]
each_crd = pytest.mark.parametrize("crd", CRDS, ids=KINDS)


def schema_of(crd: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


@each_crd
@pytest.mark.parametrize("release", [schemas.OLDEST, schemas.NEWEST])
def test_a_definition_is_a_valid_object(crd: dict[str, Any], release: str) -> None:
    kubernetes_validate.validate(crd, release, strict=True)


FORBIDDEN = ("$ref", "$defs", "definitions", "title", "default", "const", "discriminator", "uniqueItems", "examples")
TYPES = ("object", "array", "string", "integer", "number", "boolean")


def faults(node: dict[str, Any], path: str) -> Iterator[str]:
    """What keeps a schema from being structural, by the rules of Kubernetes' documentation of custom resources."""
    yield from (f"{path}: {key}" for key in FORBIDDEN if key in node)
    untyped = node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
    if "type" not in node and not untyped:
        yield f"{path}: no type"
    if "type" in node and (node["type"] not in TYPES or node.get("x-kubernetes-int-or-string")):
        yield f"{path}: type {node['type']}"
    if any(key in node for key in ("anyOf", "oneOf", "allOf", "not")):
        yield f"{path}: a union"
    if "properties" in node and "additionalProperties" in node:
        yield f"{path}: properties and additionalProperties"
    if node.get("additionalProperties") in (True, False):
        yield f"{path}: additionalProperties is no schema"
    if node.get("type") == "array" and "items" not in node:
        yield f"{path}: no items"
    if set(node.get("required", [])) - set(node.get("properties", {})):
        yield f"{path}: required, and not there"
    if node.get("nullable") and "enum" in node:
        yield f"{path}: null is no value of its enum"
    for key in node.get("x-kubernetes-list-map-keys", []):
        if key not in node["items"]["required"]:
            yield f"{path}: the key {key} may be missing"
    for name, field in node.get("properties", {}).items():
        if not (path == "" and name == "metadata"):
            yield from faults(field, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from faults(node[key], f"{path}[]")


@each_crd
def test_a_schema_is_structural(crd: dict[str, Any]) -> None:
    assert list(faults(schema_of(crd), "")) == []


def test_what_is_not_structural_is_noticed() -> None:
    broken = {"type": "object", "properties": {"a": {}, "b": {"type": "array"}}, "additionalProperties": False}
    assert {fault.partition(": ")[2] for fault in faults(broken, "")} == {
        "no type",
        "no items",
        "properties and additionalProperties",
        "additionalProperties is no schema",
    }


@each_crd
def test_patterns_mean_the_same_to_go(crd: dict[str, Any]) -> None:
    """Go's regular expressions (RE2) have no look-around and no back-references."""
    found = re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(crd))
    assert found
    assert not [pattern for pattern in found if re.search(r"\(\?[=!<]|\\[1-9]", pattern)]


@pytest.mark.parametrize("case", CASES)
def test_every_document_of_the_table_fits(case: str) -> None:
    for path in documents(case):
        schemas.check(yaml.safe_load(path.read_text(encoding="utf-8")))


def document(**spec: Any) -> dict[str, Any]:
    whole = {"kubernetes": {"image": "iris:1"}, **spec}
    kinds = {"apiVersion": "headway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "iris"}}
    return {**kinds, "spec": whole}


@pytest.mark.parametrize(
    "spec",
    [
        {"kubernetes": {}},
        {"modle": {}},
        {"scaling": {"minReplicas": -1}},
        {"scaling": {"triggers": [{"type": "fly"}]}},
        {"server": {"workers": 0}},
        {"traffic": [{"version": "v1"}]},
        {"env": [{"name": "A"}]},
        {"resources": {"memory": True}},
    ],
)
def test_what_a_document_may_not_say_does_not_fit(spec: dict[str, Any]) -> None:
    schemas.check(document())
    with pytest.raises(jsonschema.ValidationError):
        schemas.check(document(**spec))


def test_the_scale_subresource_and_the_columns_lead_to_fields_that_exist() -> None:
    for crd in CRDS:
        version = crd["spec"]["versions"][0]
        scale = version["subresources"].get("scale", {})
        paths = [*scale.values(), *(column["jsonPath"] for column in version["additionalPrinterColumns"])]
        for path in paths:
            assert path.startswith(".metadata.") or leads_somewhere(schema_of(crd), path), path


def leads_somewhere(node: dict[str, Any], path: str) -> bool:
    for name in re.sub(r"\[\?\(@[^)]*\)\]", "", path).strip(".").split("."):
        node = node.get("items", node)
        if name not in node.get("properties", {}):
            return False
        node = node["properties"][name]
    return True


def rules(node: Any) -> Iterator[dict[str, str]]:
    if isinstance(node, dict):
        yield from node.get("x-kubernetes-validations", [])
        for value in node.values():
            yield from rules(value)
    elif isinstance(node, list):
        for value in node:
            yield from rules(value)


def test_every_type_of_trigger_has_its_rule() -> None:
    texts = [one["rule"] for crd in CRDS for one in rules(crd)]
    types = schema_of(CRDS[0])["properties"]["spec"]["properties"]["scaling"]["properties"]["triggers"]["items"]
    for name in types["properties"]["type"]["enum"]:
        assert any(f"'{name}'" in text for text in texts), name
    # A field that may be text or a number has no type, and so is not to be seen in a rule.
    assert not [text for text in texts if "self.target)" in text or "self.threshold)" in text]


def test_what_pydantic_writes_becomes_structural() -> None:
    schema = {
        "$defs": {"Level": {"type": "integer", "exclusiveMinimum": 0, "title": "Level"}},
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "level": {"anyOf": [{"$ref": "#/$defs/Level"}, {"type": "null"}], "default": None},
            "kind": {"const": "x", "type": "string"},
            "amount": {"anyOf": [{"type": "string"}, {"type": "number"}], "description": "How much."},
            "tags": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["kind"],
    }
    assert structural(schema) == {
        "type": "object",
        "properties": {
            "level": {"type": "integer", "minimum": 0, "exclusiveMinimum": True, "nullable": True},
            "kind": {"type": "string", "enum": ["x"]},
            "amount": {"x-kubernetes-int-or-string": True, "description": "How much."},
            "tags": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["kind"],
    }
