"""The page on the deployment document names every field and its default, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from headway.client.pack import NEVER
from headway.domain.bundles import MAX_FILES
from headway.domain.scaling_spec import TriggerSpec
from headway.domain.spec import ModelDeployment, Probes
from headway.domain.spec_document import MAX_DEPTH
from headway.scaling.policy import DOWN, UP

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "spec.md").read_text(encoding="utf-8")


def cells(text: str) -> list[list[str]]:
    """Of every table row its cells."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


ROWS = [row for row in cells(PAGE) if re.match(r"apiVersion|kind|metadata|spec", row[0])]


TRIGGERS: dict[str, dict[str, str]] = {
    type_: {row[0]: row[1] for row in cells(section) if re.fullmatch(r"\w+", row[0]) and row[0] != "field"}
    for heading, section in re.findall(r"^#### Triggers?: ([^\n]*)\n(.*?)(?=^#)", PAGE, re.M | re.S)
    for type_ in re.findall(r"`(\w+)`", heading)
}
"""Of each type of trigger its fields with their defaults, as described."""


def part(field: FieldInfo) -> tuple[type[BaseModel] | None, bool]:
    """The part of the document that a field holds, and whether it holds a list of them."""
    found = [field.annotation, *get_args(field.annotation)]
    lists = [one for one in found if getattr(one, "__origin__", None) is list]
    inner = [*found, *(argument for one in lists for argument in get_args(one))]
    parts = [one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)]
    return (parts[0] if parts else None), bool(lists)


def fields(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every leaf by its path, with its default (``required`` when there is none)."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        path = prefix + (field.alias or name)
        if get_origin(field.annotation) is list and get_args(field.annotation) == (TriggerSpec,):
            found |= {f"{path}[].type": "required", f"{path}[].name": None}  # their other fields: by type, below
            continue
        inner, many = part(field)
        if inner is model:  # a graph's nodes below a node: the same fields again
            found[path] = None
        elif inner is None:
            found[path] = "required" if field.is_required() else field.default
        else:
            found |= fields(inner, f"{path}[]." if many else f"{path}.")
    return found


def written(default: object) -> str:
    """As YAML has it."""
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_every_field_is_described_and_no_other() -> None:
    probes = {re.sub(r"(probes|behavior)\.\w+\.", r"\1.*.", path) for path in fields(ModelDeployment)}
    described = [row[0] for row in ROWS if row[0] != "spec"]
    assert sorted(described) == sorted(probes)


def test_every_default_is_the_true_one() -> None:
    defaults = fields(ModelDeployment)
    for path, default, *_ in (row for row in ROWS if row[0] in defaults):
        # What is None by default is described in words.
        if defaults[path] is not None:
            assert default == written(defaults[path]), path


def test_every_default_of_a_probe_is_the_true_one() -> None:
    defaults = fields(Probes)
    for path, *columns in (row for row in ROWS if row[0].startswith("spec.probes.")):
        field = path.rpartition(".")[2]
        assert columns == [str(defaults[f"{kind}.{field}"]) for kind in ("startup", "readiness", "liveness")], path


def trigger_models() -> dict[str, type[BaseModel]]:
    """By what ``type`` says."""
    models = get_args(get_args(TriggerSpec)[0])
    return {type_: model for model in models for type_ in get_args(model.model_fields["type"].annotation)}


def test_every_type_of_trigger_is_described_and_no_other() -> None:
    assert sorted(TRIGGERS) == sorted(trigger_models())


@pytest.mark.parametrize(("type_", "model"), trigger_models().items())
def test_every_field_of_a_trigger_is_described_with_its_default(type_: str, model: type[BaseModel]) -> None:
    true = {path: default for path, default in fields(model).items() if path not in ("type", "name")}
    assert sorted(TRIGGERS[type_]) == sorted(true)
    for path, default in true.items():
        if default is not None:  # what is None by default is described in words
            assert TRIGGERS[type_][path] == written(default), path


def test_every_default_of_behavior_is_the_true_one() -> None:
    documented = {path.rpartition(".")[2]: columns[:2] for path, *columns in ROWS if ".behavior.*." in path}
    for column, direction in enumerate((UP, DOWN)):
        rules = direction.rules
        assert {name: columns[column] for name, columns in documented.items()} == {
            "stabilizationWindowSeconds": f"{direction.stabilization_s:g}",
            "selectPolicy": direction.select,
            "tolerance": str(direction.tolerance),
            "type": "`, `".join(rule.type for rule in rules),
            "value": "`, `".join(str(rule.value) for rule in rules),
            "periodSeconds": "`, `".join(f"{rule.period_s:g}" for rule in rules),
        }


def test_what_bounds_a_document_and_a_bundle_is_told() -> None:
    assert "  ".join(NEVER) in PAGE
    assert f"{MAX_FILES:,} files" in PAGE
    assert f"more than {MAX_DEPTH} levels" in PAGE
