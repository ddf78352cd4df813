"""Examples in the documentation: data parses, specs are valid, Python runs, shell is well-formed."""

from __future__ import annotations

import ast
import configparser
import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from headway.domain.errors import HeadwayError
from headway.domain.scaling_policy import parse_either
from headway.domain.spec import parse
from scripts.check_docs import ROOT, pages
from tests.docs.blocks import Block, blocks

HEADER: dict[str, Any] = {
    "apiVersion": "headway.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "example"},
}


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_parses(block: Block) -> None:
    json.loads(block.code)


@pytest.mark.parametrize("block", blocks("toml", "ini"), ids=str)
def test_settings_files_parse(block: Block) -> None:
    if block.language == "toml":
        tomllib.loads(block.code)
    else:
        configparser.RawConfigParser(strict=False).read_string(block.code)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_specs_are_valid(block: Block) -> None:
    """A document with ``spec`` is a deployment, whole or in part; what it leaves out is filled in."""
    for found in yaml.safe_load_all(block.code):
        if block.note == "refused":
            with pytest.raises(HeadwayError):
                parse({**HEADER, **found})
        elif isinstance(found, dict) and "spec" in found:
            parse_either({**HEADER, **found})


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*/headway.yaml")), ids=lambda p: p.parent.name)
def test_specs_of_the_examples_are_valid(path: Path) -> None:
    parse(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    ast.parse(block.code)


SYBIL = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()])


@pytest.mark.parametrize("page", [p for p in pages() if blocks("python", of=[p])], ids=lambda p: p.stem)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Top to bottom in one namespace; a block that needs a running Headway is marked ``<!-- skip: next -->``."""
    monkeypatch.chdir(tmp_path)
    for example in SYBIL.parse(page).examples():
        example.evaluate()


@pytest.mark.parametrize("block", blocks("bash", "sh", "console"), ids=str)
def test_shell_is_well_formed(block: Block) -> None:
    lines = block.code.replace("\\\n", "").splitlines()
    script = (
        "\n".join(line[2:] for line in lines if line.startswith("$ ")) if block.language == "console" else block.code
    )
    assert script.strip(), "a console block shows commands after `$ `"
    checked = subprocess.run(
        ["bash", "-n"], input=script, text=True, capture_output=True, check=False, env={"PATH": os.environ["PATH"]}
    )
    assert checked.returncode == 0, checked.stderr
