"""What went wrong in the user's code, in words its owner can act upon: type, message, file and line."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

log = logging.getLogger("headway.server")

MAX_MESSAGE_CHARS = 2_000

_INSTALL_NAMES = {
    "sklearn": "scikit-learn",
    "cv2": "opencv-python",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
}
"""Packages whose name on the index is not the name that is imported."""


@dataclass(frozen=True, slots=True)
class UserFailure:
    """``message`` starts with the exception's type; ``where`` is ``model.py:12`` when a frame lies in the bundle."""

    message: str
    where: str | None
    hint: str | None = None


def describe(error: BaseException, bundle: Path) -> UserFailure:
    """``error`` as it is reported: the innermost frame inside ``bundle`` is the place.

    An error that comes from outside of Python brings its own words in ``failure``.
    """
    told = getattr(error, "failure", None)
    if isinstance(told, UserFailure):
        return told
    return UserFailure(_message(error), _where(error, bundle), _hint(error, bundle))


def well_formed(text: str) -> str:
    """``text`` with a ``?`` for each half of a surrogate pair, as names of files hold them: it has no UTF-8 form."""
    return text.encode(errors="replace").decode()


def place_now(thread: int, bundle: Path) -> str | None:
    """Where in ``bundle`` the thread of that number is at the moment: ``model.py:12``."""
    frame = sys._current_frames().get(thread)
    root = os.path.realpath(bundle)
    while frame is not None:
        place = _place(frame.f_code.co_filename, frame.f_lineno, root)
        if place is not None:
            return place
        frame = frame.f_back
    return None


def log_traceback(error: BaseException, what: str) -> None:
    """The traceback, to the replica's log; clients never see it."""
    told = getattr(error, "failure", None)
    if isinstance(told, UserFailure):  # where in Python it came to light is of no interest
        text = "\n".join([told.message, *getattr(error, "__notes__", ())])
    else:
        text = "".join(traceback.format_exception(error, limit=-60))
    log.disabled = False  # logging.config in the user's code switches off the loggers that were there before
    log.error("%s\n%s", what, text.rstrip().encode(errors="backslashreplace").decode())


def _message(error: BaseException) -> str:
    kind = type(error).__name__
    if isinstance(error, SyntaxError):
        text = error.msg
    else:
        try:
            text = str(error)
        except Exception:  # the user's own __str__
            text = "(its message cannot be shown)"
    text = well_formed(" ".join(text.split()))
    if len(text) > MAX_MESSAGE_CHARS:
        text = text[:MAX_MESSAGE_CHARS] + "..."
    if isinstance(error, SystemExit):
        return f"SystemExit: the code called exit({'' if error.code is None else error.code!r})"
    return f"{kind}: {text}" if text else kind


def _where(error: BaseException, bundle: Path) -> str | None:
    root = os.path.realpath(bundle)
    if isinstance(error, SyntaxError) and error.filename:
        return _place(error.filename, error.lineno, root)
    return _innermost(error.__traceback__, root)


def _innermost(trace: TracebackType | None, root: str) -> str | None:
    found = None
    while trace is not None:
        place = _place(trace.tb_frame.f_code.co_filename, trace.tb_lineno, root)
        found = place or found
        trace = trace.tb_next
    return found


def _place(filename: str, line: int | None, root: str) -> str | None:
    if not os.path.isabs(filename):
        return None  # <frozen importlib._bootstrap>, <string>
    path = os.path.realpath(filename)
    if not path.startswith(root + os.sep):
        return None
    relative = path[len(root) + 1 :]
    return f"{relative}:{line}" if line else relative


def _hint(error: BaseException, bundle: Path) -> str | None:
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        package = _INSTALL_NAMES.get(top, top)
        if (bundle / "requirements.txt").is_file():
            return f"package {package!r} is missing: add it to requirements.txt"
        return f"package {package!r} is missing: list it in a requirements.txt beside model.py"
    if isinstance(error, SystemExit):
        return "a model must not exit the process; raise an exception instead"
    return None
