"""One virtual environment per contender, made with uv from pinned requirements, kept between runs.

An environment is whole when the mark in it equals its requirements; anything else is made anew.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from .contenders import ROOT, Contender


class SetUpFailed(Exception):
    """A contender cannot be measured; the message says why."""


def install(contender: Contender, cache: Path) -> Path:
    """The interpreter of the contender's environment, which is made when missing. Raises :class:`SetUpFailed`."""
    pins = contender.pins
    environment = cache / "env" / pins.stem
    python = environment / "bin" / "python"
    mark = environment / "installed.txt"
    wanted = pins.read_text("utf-8")
    if mark.is_file() and mark.read_text("utf-8") == wanted and python.exists():
        return python
    print(f"installing {pins.stem} …", flush=True)
    shutil.rmtree(environment, ignore_errors=True)
    environment.parent.mkdir(parents=True, exist_ok=True)
    # Copies, not links to uv's cache: pages shared with somebody else's processes would weigh less.
    _uv("venv", "--quiet", "--python", sys.executable, str(environment))
    _uv(
        "pip",
        "install",
        "--quiet",
        "--link-mode",
        "copy",
        "--compile-bytecode",
        "--python",
        str(python),
        "--requirement",
        str(pins),
    )
    mark.write_text(wanted, encoding="utf-8")
    return python


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).parent / "uv"
    command = [str(uv) if uv.exists() else "uv", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetUpFailed(f"uv {arguments[0]}: {' '.join(done.stderr.split())[-400:]}")


def version(contender: Contender, python: Path) -> str:
    """The installed version of the contender's package."""
    if contender.package == "headway":
        from headway import __version__

        return __version__
    code = f"import importlib.metadata as m; print(m.version({contender.package!r}))"
    return _run_python(python, "-c", code).strip()


def train(python: Path, cache: Path) -> dict[str, object]:
    """Train the models once; the facts about them: rows and the classes that each model gives them."""
    folder = cache / "models"
    facts = folder / "facts.json"
    if not facts.is_file():
        _run_python(python, str(Path(__file__).with_name("train.py")), str(folder))
    loaded: dict[str, object] = json.loads(facts.read_text("utf-8"))
    return loaded


def run_once(command: list[str], mark: Path) -> None:
    """Run a preparation that leaves ``mark``, unless it is there. Raises :class:`SetUpFailed`."""
    if not mark.exists():
        _run(command)
        mark.touch()


def _run_python(python: Path, *arguments: str) -> str:
    return _run([str(python), *arguments])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetUpFailed(f"{Path(command[1]).name} failed: {' '.join(done.stderr.split())[-400:]}")
    return done.stdout
