"""The process of a user's scaling function.

``python -m headway.server.scaling_function ENTRYPOINT BUNDLE BYTES PARENT`` (the last is a pid) runs in the version's
environment with the bundle as its folder and first on its path. One line of JSON comes in, one goes out: after the
import ``{"ready": true}``, then ``{"value": 3.0}`` for each context, or ``{"error": …, "where": …, "hint": …}``. Both
go over descriptors that the user's code does not get to see: its own stdin is empty, and what it prints goes to stderr.

It dies with its parent, and may have no more memory than BYTES: ``RLIMIT_DATA`` (setrlimit(2)) bounds the private
writable memory that it may ask for, the interpreter's own 10 MiB or so included; shared libraries do not count.
"""

from __future__ import annotations

import importlib
import inspect
import json
import math
import os
import resource
import sys
from collections.abc import Callable
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Final

from headway.server.failures import describe, log_traceback
from headway.server.worker_start import die_with_parent

EXIT_FAILED: Final = 78
"""As of a model server whose model does not load."""
MOST: Final = 1000
"""Replicas that may be asked for."""
OUT_OF_MEMORY: Final = b'{"error":"out of memory","out_of_memory":true}\n'


class _Refused(Exception):
    """What the user's code gave is not what was asked for."""


def main(entrypoint: str, bundle: Path, memory_bytes: int) -> int:
    """Import, then answer until there is nobody to ask; the exit code."""
    asked, answers = _channels()
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    found: list[Callable[[Any], Any]] = []

    def load() -> dict[str, Any]:
        found.append(_load(entrypoint, bundle))
        return {"ready": True}

    os.write(answers, _answered(load, entrypoint, bundle))
    if not found:
        return EXIT_FAILED
    function = found[0]
    with open(asked, "rb") as lines:
        for line in lines:
            os.write(answers, _answered(partial(_call, function, line), entrypoint, bundle))
    return 0


def _channels() -> tuple[int, int]:
    """Move stdin and stdout out of the way of the user's code."""
    asked, answers = os.dup(0), os.dup(1)  # not inheritable
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return asked, answers


def _load(entrypoint: str, bundle: Path) -> Callable[[Any], Any]:
    sys.dont_write_bytecode = True
    here = os.getcwd()
    os.chdir(bundle)
    sys.path[:] = [str(bundle), *(p for p in sys.path if p not in ("", here, str(bundle)))]
    module_name, _, name = entrypoint.partition(":")
    module = importlib.import_module(module_name)
    if not hasattr(module, name):
        raise _Refused(f"{module_name} has no {name}")
    function = getattr(module, name)
    if not callable(function) or inspect.isclass(function):
        raise _Refused(f"{name} is not a function")
    if inspect.iscoroutinefunction(function):
        raise _Refused(f"{name} is async, which is not supported here")
    called: Callable[[Any], Any] = function
    return called


def _call(function: Callable[[Any], Any], line: bytes) -> dict[str, Any]:
    """A replica count; fractions are for whoever decides. Numbers of numpy are numbers, booleans are not."""
    result = function(json.loads(line))
    if isinstance(result, bool) or not isinstance(result, Real):
        raise _Refused(f"returned {_shown(result)}, which is not a number")
    value = float(result)
    if not math.isfinite(value) or not 0 <= value <= MOST:
        raise _Refused(f"returned {_shown(result)}; a replica count is 0 to {MOST}")
    return {"value": value}


def _shown(result: Any) -> str:
    try:
        text = repr(result)
    except Exception:  # the user's own __repr__
        text = "?"
    return f"{type(result).__name__} {text[:100]}"


def _answered(work: Callable[[], dict[str, Any]], entrypoint: str, bundle: Path) -> bytes:
    """The line that says what became of ``work``; whatever it raises, ``exit`` too, becomes an answer."""
    try:
        answer = work()
    except MemoryError:
        return OUT_OF_MEMORY
    except _Refused as refused:
        answer = {"error": str(refused)}
    except BaseException as error:
        try:
            log_traceback(error, f"{entrypoint} failed")
            failure = describe(error, bundle)
        except MemoryError:
            return OUT_OF_MEMORY
        hint = None if isinstance(error, SystemExit) else failure.hint
        answer = {"error": failure.message, "where": failure.where, "hint": hint}
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # closed or replaced by the user's code
            continue
    return json.dumps(answer).encode() + b"\n"


if __name__ == "__main__":
    _entrypoint, _bundle, _bytes, _parent = sys.argv[1:]
    die_with_parent(int(_parent))
    code = main(_entrypoint, Path(_bundle), int(_bytes))
    sys.stderr.flush()
    os._exit(code)  # whatever threads and exit handlers the user's code has
