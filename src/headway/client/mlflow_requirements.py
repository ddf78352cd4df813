"""What an MLflow model needs, as a ``requirements.txt``. Pure.

MLflow writes the same list into up to three files. Taken is the first of ``requirements.txt``, the pip part of
``conda.yaml``, and ``python_env.yaml``. A package of conda itself has no certain name on the package index, so it is
refused by name rather than guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import yaml

from headway.domain.errors import InvalidBundle

REQUIREMENTS: Final = "requirements.txt"
LOCK: Final = "requirements.lock"
CONDA: Final = "conda.yaml"
PYTHON_ENV: Final = "python_env.yaml"
_TOOLS: Final = frozenset({"python", "pip", "setuptools", "wheel"})
"""What every environment of Headway has, or does without."""
_NAME = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")
_INCLUDE = re.compile(r"(?:-r|--requirement)(?:\s*=\s*|\s+)?(\S+)")
_RELEASE = re.compile(r"\d+(?:\.\d+)*")

Read = Callable[[str], str | None]
"""Text of a file of the model; None when it is not there."""


def made(read: Read, mlflow_version: str | None) -> tuple[str | None, str | None]:
    """The ``requirements.txt`` to serve the model with, and a note for its owner.

    None: the model's own will do. Raises ``InvalidBundle`` for conda packages and for files that cannot be read.
    """
    if read(LOCK) is not None:
        return None, None
    text = read(REQUIREMENTS)
    found = text
    if text is None:
        lines = _of_conda(read) or _of_python_env(read)
        found = "".join(f"{line}\n" for line in lines or ())
    assert found is not None
    names = _names(found, read, set())
    if names & {"mlflow", "mlflow-skinny"}:
        return (None if text is not None else found), None
    missing = [_mlflow(mlflow_version), *(name for name in ("numpy", "pandas") if name not in names)]
    note = f"its requirements lack MLflow, which loads it: {', '.join(missing)} added"
    return "".join([found.rstrip("\n") + "\n" if found.strip() else "", *(f"{name}\n" for name in missing)]), note


def _mlflow(version: str | None) -> str:
    return f"mlflow-skinny=={version}" if version is not None and _RELEASE.fullmatch(version) else "mlflow-skinny"


def _names(text: str, read: Read, seen: set[str]) -> set[str]:
    """Packages that ``text`` and what it includes ask for, as PEP 503 compares them."""
    found: set[str] = set()
    for raw in text.splitlines():
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        if include := _INCLUDE.match(line):
            if include[1] not in seen and len(seen) < 50:
                seen.add(include[1])
                found |= _names(read(include[1]) or "", read, seen)
        elif name := _NAME.match(line):
            found.add(re.sub(r"[-_.]+", "-", name[1]).lower())
    return found


def _of_conda(read: Read) -> list[str] | None:
    document = _mapping(CONDA, read(CONDA))
    if document is None:
        return None
    found: list[str] = []
    for entry in _list(document, "dependencies", CONDA):
        if isinstance(entry, dict):
            found += [str(line) for line in _list(entry, "pip", CONDA)]
            continue
        match = _NAME.match(str(entry).rpartition("::")[2])
        name = "" if match is None else match[1].lower()
        if name not in _TOOLS:
            raise InvalidBundle(
                f"the model needs the conda package {entry!s:.80}",
                where=CONDA,
                hint=f"write its packages from the package index into a {REQUIREMENTS} beside MLmodel",
            )
    return found


def _of_python_env(read: Read) -> list[str] | None:
    document = _mapping(PYTHON_ENV, read(PYTHON_ENV))
    return None if document is None else [str(line) for line in _list(document, "dependencies", PYTHON_ENV)]


def _mapping(path: str, text: str | None) -> Mapping[str, Any] | None:
    if text is None:
        return None
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = path if mark is None else f"{path}:{mark.line + 1}"
        raise InvalidBundle("this is not YAML", where=where) from None
    if not isinstance(found, dict):
        raise InvalidBundle("this is no environment: a mapping is wanted", where=path)
    return found


def _list(document: Mapping[str, Any], key: str, path: str) -> list[Any]:
    found = document.get(key) or []
    if not isinstance(found, list):
        raise InvalidBundle(f"{key} is no list", where=path)
    return found
