"""The leak check finds what it is there to find: a detached process, a socket, a file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.leaks import LeakCheck, environment, make_scratch, processes_of, remove_scratch
from tests.waiting import wait_until


@pytest.fixture
def folder() -> Iterator[Path]:
    scratch = make_scratch()
    yield scratch
    remove_scratch(scratch)


def test_finds_and_ends_a_process_that_detached_itself(folder: Path) -> None:
    check = LeakCheck(folder, patience_s=0.0)
    # The shell ends at once; its background process belongs to nobody then, as a replica does.
    ready = folder / "ready"  # until it stands, the process may be between two programs and have no environment
    code = f'import pathlib, signal; pathlib.Path("{ready}").touch(); signal.pause()'
    detach = f"exec setsid {sys.executable} -c '{code}' >/dev/null 2>&1 &"
    subprocess.run(["bash", "-c", detach], env={**os.environ, **environment(folder)}, check=True)
    wait_until(ready.exists)
    left = check.left()
    assert len(left) == 1, left
    assert "signal.pause" in left[0]
    wait_until(lambda: not processes_of(folder))


def test_finds_a_socket_and_a_file(folder: Path) -> None:
    check = LeakCheck(folder)
    (folder / "tmp" / "forgotten").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert check.left() == [f"listening socket 127.0.0.1:{port}", "temporary file forgotten"]


def test_nothing_left_is_nothing_found(folder: Path) -> None:
    check = LeakCheck(folder)
    subprocess.run([sys.executable, "-c", ""], env={**os.environ, **environment(folder)}, check=True)
    assert check.left() == []
