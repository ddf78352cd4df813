"""From a bundle to a loaded model: find the entrypoint, import it, make the object, call ``load``.

Without an entrypoint ``model.py`` is searched for, in this order: an object named ``model``; the one class
defined there that has ``predict``; a function named ``predict``. More than one candidate is an error that
names them, never a guess.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from headway.domain.errors import HeadwayError, LoadFailed, OutOfMemory
from headway.server.artifacts import find_artifact, load_artifact
from headway.server.failures import describe, log_traceback
from headway.server.model import LoadedModel

T = TypeVar("T")


def load_model(bundle: Path, entrypoint: str | None, *, stage: Callable[[str], None]) -> LoadedModel:
    """The model of ``bundle``, loaded. ``stage`` is told ``import`` and then ``load``.

    Raises ``LoadFailed`` (or ``OutOfMemory``) that names exception, file and line, or the missing package.
    """
    stage("import")
    if entrypoint is not None and not all(entrypoint.partition(":")):
        raise LoadFailed(f"entrypoint {entrypoint!r} is not of the form module:attribute", hint="model:Iris")
    if entrypoint is None and not (bundle / "model.py").is_file():
        if (bundle / "model.R").is_file():
            from headway.server.r_model import load_r_model  # what other models do not need

            return guard(lambda: load_r_model(bundle, stage), bundle, "loading model.R")
        return _load_without_code(bundle, stage)
    name, subject = load_subject(bundle, bundle, entrypoint, stage=stage)
    model = LoadedModel(subject, bundle, name=name)
    guard(model.load, bundle, f"{name}.load()")
    return model


def load_subject(
    folder: Path,
    bundle: Path,
    entrypoint: str | None,
    *,
    stage: Callable[[str], None],
    method: str = "predict",
    arguments: Mapping[str, Any] | None = None,
) -> tuple[str, Any]:
    """The user's object from the code in ``folder`` of ``bundle``, and its name, made with ``arguments``.

    ``method``: what it has to have. Raises as :func:`load_model`.
    """
    module_name, _, attribute = (entrypoint or "model").partition(":")
    module = guard(lambda: _import(module_name, folder), bundle, f"importing {module_name}")
    name, found = _resolve(module, attribute) if attribute else _find(module, method)
    stage("load")
    subject = found
    if inspect.isclass(found):
        _check_constructor(found, arguments or {})
        subject = guard(lambda: found(**(arguments or {})), bundle, f"making {name}()")
    elif arguments:
        raise LoadFailed(f"{name} is no class: it takes no parameters", where=_file(module, bundle))
    if not hasattr(subject, method) and not (method == "predict" and callable(subject)):
        raise LoadFailed(f"{name} has no {method}", where=_file(module, bundle))
    return name, subject


def _load_without_code(bundle: Path, stage: Callable[[str], None]) -> LoadedModel:
    path = find_artifact(bundle)
    if path is None:
        raise LoadFailed(
            "no model in the bundle",
            hint="add model.py or model.R, an MLflow model, a .joblib, .pkl or .onnx file, or name an entrypoint",
        )
    stage("load")
    subject, kind = guard(lambda: load_artifact(path), bundle, f"loading {path.name}")
    model = LoadedModel(subject, bundle, name=path.name, kind=kind)
    model.has_code = path.name == "MLmodel"
    return model


def guard(call: Callable[[], T], bundle: Path, doing: str) -> T:
    """What ``call`` returns; whatever the user's code raises, ``exit`` too, becomes an error of the tree."""
    try:
        return call()
    except HeadwayError:
        raise
    except BaseException as error:
        log_traceback(error, f"{doing} failed")
        failure = describe(error, bundle)
        kind = OutOfMemory if isinstance(error, MemoryError) else LoadFailed
        raise kind(failure.message, where=failure.where, hint=failure.hint) from error


def _import(name: str, bundle: Path) -> ModuleType:
    already = sys.modules.get(name)
    if already is not None and not _inside(already, bundle):
        raise LoadFailed(f"{name}.py has the name of a module that Python itself uses", hint="rename the file")
    return importlib.import_module(name)


def _inside(module: ModuleType, bundle: Path) -> bool:
    path = getattr(module, "__file__", None)
    return path is not None and os.path.realpath(path).startswith(os.path.realpath(bundle) + os.sep)


def _file(module: ModuleType, bundle: Path) -> str:
    path = getattr(module, "__file__", None) or module.__name__
    return os.path.relpath(path, bundle) if _inside(module, bundle) else path


def _resolve(module: ModuleType, attribute: str) -> tuple[str, Any]:
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            known = [n for n, v in vars(module).items() if not n.startswith("_") and _is_candidate(module, v)]
            raise LoadFailed(
                f"{module.__name__} has no {attribute!r}",
                hint=f"it defines: {', '.join(known)}" if known else "it defines nothing with predict",
            ) from None
    return attribute, found


def _is_candidate(module: ModuleType, value: Any) -> bool:
    if inspect.isclass(value) or inspect.isfunction(value):
        return value.__module__ == module.__name__
    return hasattr(value, "predict")


def _find(module: ModuleType, method: str) -> tuple[str, Any]:
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__ and callable(getattr(value, method, None))
    ]
    # A base that another candidate builds upon, or an abstract class, is not the model.
    classes = list(dict.fromkeys(classes))
    classes = [
        c for c in classes if not inspect.isabstract(c) and not any(d is not c and issubclass(d, c) for d in classes)
    ]
    instance = getattr(module, "model", None)
    if instance is not None and not inspect.isclass(instance) and hasattr(instance, method):
        return "model", instance
    function = getattr(module, "predict", None) if method == "predict" else None
    if not (inspect.isfunction(function) or (callable(function) and not inspect.isclass(function))):
        function = None
    candidates = [c.__name__ for c in classes] + (["predict"] if function is not None else [])
    if len(candidates) > 1:
        raise LoadFailed(
            f"model.py defines more than one model: {', '.join(candidates)}",
            where="model.py",
            hint=f"name one as the entrypoint, for example model:{candidates[0]}",
        )
    if classes:
        return classes[0].__name__, classes[0]
    if function is not None:
        return "predict", function
    raise LoadFailed(
        "model.py defines no model",
        where="model.py",
        hint="a class with predict, a function named predict, or an object named model"
        if method == "predict"
        else f"a class with {method}, or an object named model",
    )


def _check_constructor(found: type, arguments: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return
    needed = [
        p.name
        for p in signature.parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in arguments
    ]
    if needed:
        raise LoadFailed(
            f"{found.__name__}() needs arguments: {', '.join(needed)}",
            hint="give them defaults, or put a ready object named model into model.py",
        )
    parameters = signature.parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        odd = [name for name in arguments if name not in signature.parameters]
        if odd:
            known = ", ".join(p.name for p in parameters) or "none"
            raise LoadFailed(f"{found.__name__}() takes no {', '.join(odd)}", hint=f"its parameters: {known}")
