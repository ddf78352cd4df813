"""A folder that MLflow saved, made ready to be packed.

MLflow is not needed for it: ``MLmodel`` is YAML. What the model says there becomes what Headway reads anyway: its
requirements a ``requirements.txt``, its input example a ``sample.json``, which is predicted before the model serves
and is what load tests send. Files of that name that are there already are left as they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import yaml

from headway.client import mlflow_requirements
from headway.client.mlflow_example import body_of
from headway.client.pack import Bundle
from headway.domain.errors import InvalidBundle

MLMODEL: Final = "MLmodel"
SAMPLE: Final = "sample.json"
REGISTRATION: Final = "registered_model_meta"
"""Written at download: which version was asked for. It is no part of the model: Headway keeps it as the source."""
_SERVING_EXAMPLE: Final = "serving_input_example.json"
PYFUNC: Final = "python_function"
"""The flavour that calls any model as a function of Python."""
_PICKLED_CODE: Final = "mlflow.pyfunc.model"
_MOST_MLMODEL: Final = 16 * 1024 * 1024
_MOST_EXAMPLE: Final = 64 * 1024 * 1024
_MOST_TEXT: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Prepared:
    """The files to pack, and what their owner should know."""

    bundle: Bundle
    notes: tuple[str, ...]
    python: str | None
    """Version of Python that it was saved with."""
    code_pickled: bool
    """Whether Python code is in a pickle, whose bytecode other versions of Python cannot run."""

    def check_python(self, serving: str) -> str | None:
        """A note when it was saved with another minor version than ``serving``, the one that it would run with.

        Raises ``InvalidBundle`` where that cannot work.
        """
        if self.python is None or not serving or _minor(self.python) == _minor(serving):
            return None
        if self.code_pickled:
            raise InvalidBundle(
                f"the model's code was pickled by Python {self.python}, and models run with {serving} here",
                where=f"{MLMODEL}: python_function.python_version",
                hint=f"run Headway with Python {_minor(self.python)}, or log the model from a file of code "
                "(python_model='model.py'), which every Python reads",
            )
        return f"saved with Python {self.python}, runs with Python {serving}"


def prepare(bundle: Bundle) -> Prepared:
    """``bundle``, which holds an ``MLmodel``, with requirements and sample. Raises ``InvalidBundle``."""
    document = _document(bundle)
    flavours = document.get("flavors")
    if not isinstance(flavours, dict):
        raise InvalidBundle("it names no flavors", where=MLMODEL, hint="is this a folder that MLflow saved?")
    pyfunc = flavours.get(PYFUNC)
    if not isinstance(pyfunc, dict):
        raise _no_pyfunc([str(name) for name in flavours])
    read = partial(_text, bundle)
    requirements, note = mlflow_requirements.made(read, _told(document, "mlflow_version"))
    made: dict[str, bytes] = {}
    if requirements is not None:
        made[mlflow_requirements.REQUIREMENTS] = requirements.encode()
    if not bundle.holds(SAMPLE):
        sample = _sample(bundle, document)
        if sample is not None:
            made[SAMPLE] = sample
    pickled = pyfunc.get("loader_module") == _PICKLED_CODE and not pyfunc.get("model_code_path")
    return Prepared(
        bundle.with_files(made, without=(REGISTRATION,)),
        () if note is None else (note,),
        _told(pyfunc, "python_version"),
        pickled,
    )


def _document(bundle: Bundle) -> dict[str, Any]:
    content = bundle.read(MLMODEL, _MOST_MLMODEL)
    assert content is not None
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = yaml.load(content, Loader=loader)  # noqa: S506 (a safe loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        raise InvalidBundle(
            "this is not YAML", where=MLMODEL if mark is None else f"{MLMODEL}:{mark.line + 1}"
        ) from None
    if not isinstance(found, dict):
        raise InvalidBundle("this describes no model", where=MLMODEL, hint="is this a folder that MLflow saved?")
    return found


def _no_pyfunc(flavours: list[str]) -> InvalidBundle:
    if "crate" in flavours:
        return InvalidBundle(
            "it is a function of R (flavour crate), which MLflow cannot call from Python",
            where=MLMODEL,
            hint="Headway serves R from a folder with a model.R: headway init NAME --r makes one",
        )
    named = ", ".join(flavours)[:200] or "none"
    return InvalidBundle(
        f"it has no flavour {PYFUNC}, so nothing can call it; its flavours: {named}",
        where=MLMODEL,
        hint="log it with an MLflow flavour for Python, or as mlflow.pyfunc.PythonModel",
    )


def _sample(bundle: Bundle, document: dict[str, Any]) -> bytes | None:
    info = document.get("saved_input_example_info")
    if not isinstance(info, dict) or str(info.get("type", "")).startswith("sparse_matrix"):
        return None
    for path in (info.get("serving_input_path") or _SERVING_EXAMPLE, info.get("artifact_path")):
        content = bundle.read(path, _MOST_EXAMPLE) if isinstance(path, str) else None
        if content is not None:
            return body_of(content, info, _tensors(document))
    return None


def _tensors(document: dict[str, Any]) -> tuple[str, ...]:
    """Names of the inputs where they are several tensors."""
    signature = document.get("signature")
    try:
        inputs = json.loads(signature["inputs"]) if isinstance(signature, dict) else []
        names = tuple(one["name"] for one in inputs if one.get("type") == "tensor")
    except (KeyError, TypeError, ValueError, AttributeError):
        return ()
    return names if len(names) > 1 else ()


def _text(bundle: Bundle, path: str) -> str | None:
    content = bundle.read(path, _MOST_TEXT)
    try:
        return None if content is None else content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1 if content is not None else 1
        raise InvalidBundle("the file is not UTF-8 text", where=f"{path}:{line}") from None


def _told(document: dict[str, Any], key: str) -> str | None:
    found = document.get(key)
    return None if found is None else str(found)


def _minor(version: str) -> str:
    """``3.11.7`` -> ``3.11``."""
    return ".".join(version.split(".")[:2])
