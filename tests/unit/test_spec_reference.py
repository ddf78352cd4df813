"""The page on the deployment document names every field and its default, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from headway.client.pack import NEVER
from headway.domain.bundles import MAX_FILES
from headway.domain.spec import ModelDeployment, Probes
from headway.domain.spec_document import MAX_DEPTH

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "spec.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip().strip("`") for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| `(apiVersion|kind|metadata|spec)", line)
]


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
        inner, many = part(field)
        if inner is None:
            found[path] = "required" if field.is_required() else field.default
        else:
            found |= fields(inner, f"{path}[]." if many else f"{path}.")
    return found


def test_every_field_is_described_and_no_other() -> None:
    probes = {re.sub(r"probes\.\w+\.", "probes.*.", path) for path in fields(ModelDeployment)}
    described = [row[0] for row in ROWS if row[0] != "spec"]
    assert sorted(described) == sorted(probes)


def test_every_default_is_the_true_one() -> None:
    defaults = fields(ModelDeployment)
    for path, default, *_ in (row for row in ROWS if row[0] in defaults):
        # What is None by default is described in words.
        if defaults[path] is not None:
            assert default == str(defaults[path]), path


def test_every_default_of_a_probe_is_the_true_one() -> None:
    defaults = fields(Probes)
    for path, *columns in (row for row in ROWS if row[0].startswith("spec.probes.")):
        field = path.rpartition(".")[2]
        assert columns == [str(defaults[f"{kind}.{field}"]) for kind in ("startup", "readiness", "liveness")], path


def test_what_bounds_a_document_and_a_bundle_is_told() -> None:
    assert "  ".join(NEVER) in PAGE
    assert f"{MAX_FILES:,} files" in PAGE
    assert f"more than {MAX_DEPTH} levels" in PAGE
