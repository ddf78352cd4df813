"""Fixtures of the end-to-end tests: real command line, real processes, real HAProxy, one test at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.installation import Installation, module_installation
from tests.waiting import PortPicker


@pytest.fixture
def installation(scratch: Path, free_port: PortPicker) -> Iterator[Installation]:
    """A Headway of this test's own, not started. Stopped at the end; what survives that is a leak."""
    headway = Installation(scratch, free_port)
    yield headway
    if headway.processes():
        headway.run("down")


@pytest.fixture
def running(installation: Installation) -> Installation:
    """A Headway of this test's own, started, empty."""
    installation.up()
    return installation


@pytest.fixture(scope="module")
def shared(free_port: PortPicker) -> Iterator[Installation]:
    """A started Headway for all tests of one module: each test uses model names of its own and deletes them."""
    with module_installation(free_port) as headway:
        yield headway


@pytest.fixture
def write_model(scratch: Path) -> Callable[..., Path]:
    """``write_model("name", "code of model.py", requirements="…", spec="…")`` -> the folder."""

    def write(name: str, code: str, *, requirements: str | None = None, spec: str | None = None) -> Path:
        folder = scratch / "models" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.py").write_text(code)
        if requirements is not None:
            (folder / "requirements.txt").write_text(requirements)
        if spec is not None:
            (folder / "headway.yaml").write_text(spec)
        return folder

    return write
