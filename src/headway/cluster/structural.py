"""From the JSON Schema of a document to a *structural* OpenAPI v3 schema, the only kind that a CRD may have.

Structural means: every field has its type at its place, nothing is referred to, no union holds fields of its own, and
no object forbids what it does not know. So references are put in place, ``null`` becomes ``nullable``, a number that
may be text becomes ``int-or-string``, and a union of objects becomes one object with the fields of all of them, beside
rules in CEL that say which of them belong together. Defaults are left out: Headway fills them in itself, and tells what
was stated from what was not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

Schema = dict[str, Any]
KEPT: Final = ("type", "description", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "format")
OPEN: Final[Schema] = {"x-kubernetes-preserve-unknown-fields": True}
"""Text in one variant of a union and a number in another; what it must be is said by the operator."""


def structural(schema: Mapping[str, Any]) -> Schema:
    """``schema`` (JSON Schema as pydantic writes it) as a structural schema."""
    return _node(schema, schema.get("$defs", {}))


def rule(text: str, message: str) -> Schema:
    """One rule in CEL."""
    return {"rule": text, "message": message}


def with_rules(schema: Schema, *rules: Schema) -> Schema:
    """``schema`` with further rules."""
    return {**schema, "x-kubernetes-validations": [*schema.get("x-kubernetes-validations", []), *rules]}


def _node(node: Mapping[str, Any], known: Mapping[str, Any]) -> Schema:
    if "$ref" in node:
        target = known[node["$ref"].rpartition("/")[2]]
        if node["$ref"] in json.dumps(target):  # what holds itself, a graph's nodes, has no end when written out
            return {"type": "object", **OPEN, **{key: target[key] for key in ("description",) if key in target}}
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _node({**target, **beside}, known)
    variants: Sequence[Mapping[str, Any]] = node.get("anyOf") or node.get("oneOf") or ()
    if variants:
        return _variants(node, variants, known)
    found: Schema = {key: node[key] for key in KEPT if key in node}
    if "const" in node:
        found["enum"] = [node["const"]]
    found |= _bounds(node)
    if node.get("type") == "array":
        found["items"] = _node(node["items"], known)
    if node.get("type") == "object":
        found |= _fields(node, known)
    return found


def _bounds(node: Mapping[str, Any]) -> Schema:
    """OpenAPI 3.0 has the bound and, apart from it, whether the bound itself is excluded."""
    found: Schema = {}
    for bound, excluded in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if bound in node:
            found[bound] = node[bound]
        elif excluded in node:
            found |= {bound: node[excluded], excluded: True}
    return found


def _fields(node: Mapping[str, Any], known: Mapping[str, Any]) -> Schema:
    if "properties" in node:
        found: Schema = {"properties": {name: _node(field, known) for name, field in node["properties"].items()}}
        return found | ({"required": sorted(node["required"])} if node.get("required") else {})
    values = node.get("additionalProperties")
    return {"additionalProperties": _node(values, known)} if isinstance(values, Mapping) else dict(OPEN)


def _variants(node: Mapping[str, Any], variants: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> Schema:
    said = {"description": node["description"]} if "description" in node else {}
    real = [variant for variant in variants if variant.get("type") != "null"]
    nullable = {"nullable": True} if len(real) < len(variants) else {}
    if len(real) == 1:
        found = _node(real[0], known)
    elif all("$ref" in variant for variant in real):
        found = _union([_node(variant, known) for variant in real])
    else:
        found = {"x-kubernetes-int-or-string": True}  # a quantity: text, or a number
    return {**found, **said, **({} if "enum" in found else nullable)}  # null is no value of an enum


def _union(variants: Sequence[Schema]) -> Schema:
    """One object with the fields of all ``variants``, told apart by ``type``."""
    fields: dict[str, list[Schema]] = {}
    for variant in variants:
        for name, field in variant["properties"].items():
            fields.setdefault(name, []).append(field)
    merged = {name: _merged(found) for name, found in fields.items()}
    visible = {name for name, field in merged.items() if field != OPEN}
    union: Schema = {"type": "object", "properties": merged, "required": ["type"]}
    return with_rules(union, *(one for variant in variants for one in _belonging(variant, visible)))


def _belonging(variant: Schema, visible: set[str]) -> Iterable[Schema]:
    types = variant["properties"]["type"]["enum"]
    these = f"self.type in [{', '.join(repr(one) for one in types)}]"
    needed = sorted({*variant.get("required", [])} & visible - {"type"})
    if needed:
        all_ = " && ".join(f"has(self.{name})" for name in needed)
        yield rule(f"!({these}) || ({all_})", f"{' and '.join(types)}: required is {', '.join(needed)}")
    foreign = sorted(visible - set(variant["properties"]))
    any_ = " || ".join(f"has(self.{name})" for name in foreign)
    yield rule(f"!({these}) || !({any_})", f"{' and '.join(types)}: only {', '.join(sorted(variant['properties']))}")


def _merged(fields: Sequence[Schema]) -> Schema:
    """What all of ``fields`` allow together; bounds in which they differ are left to the operator."""
    if any(field.get("type") != fields[0].get("type") for field in fields):
        return dict(OPEN)
    found = {key: value for key, value in fields[0].items() if all(field.get(key) == value for field in fields)}
    if all("enum" in field for field in fields):
        found["enum"] = sorted({value for field in fields for value in field["enum"]})
    return found
