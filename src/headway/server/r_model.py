"""A model in R: a folder with model.R behind the same contract as a Python object (:mod:`headway.server.model`).

R runs in a process of its own (:mod:`headway.server.r_process`), one for each process that serves. A fork does not
share it: before one, the model rests, and each child begins with a process of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from headway.domain.errors import (
    DeadlineExceeded,
    HeadwayError,
    InvalidRequest,
    LoadFailed,
    MissingBinary,
    ModelFailed,
    OutOfMemory,
)
from headway.server import r_packages, r_serial
from headway.server.failures import MAX_MESSAGE_CHARS, UserFailure
from headway.server.inputs import Table
from headway.server.model import EXTRAS, NAME_PARAMETERS, InputKind, LoadedModel
from headway.server.r_columns import Feature, features_of, frame
from headway.server.r_process import RProcess, RTooLate, find_rscript
from headway.server.r_results import result_of, unboxed
from headway.server.r_serial import RValue

FILE: Final = "model.R"
OLDEST: Final = (4, 0)
"""Older ones make factors of text unasked."""
HEALTH_LIMIT_S: Final = 4.0
HEALTH_WAIT_S: Final = 0.5
"""R that predicts for longer than this is not asked how it is: it is at work."""
_DATATYPES: Final = {"integer": "INT32", "logical": "BOOL", "double": "FP64"}
_ABSENT: Final = re.compile(r"there is no package called .([A-Za-z0-9.]+)")
_NO_MEMORY: Final = re.compile(r"cannot allocate (?:vector|memory)")


class RError(TypeError):
    """R's ``stop()``, or any error of R's own, with R's message.

    R does not tell kinds of error. As a ``TypeError`` it is the request's fault where the model has answered requests
    of other columns or types before, and else the model's.
    """

    def __init__(self, failure: UserFailure, calls: list[str]) -> None:
        super().__init__(failure.message)
        self.failure = failure
        for call in calls:
            self.add_note(f"R: {call}")


def load_r_model(bundle: Path, stage: Callable[[str], None]) -> LoadedModel:
    """The model of ``bundle``, loaded. ``stage`` is told ``load``.

    Raises ``LoadFailed`` or ``OutOfMemory`` with R's message and line, ``MissingBinary`` without R.
    """
    subject = RModel(bundle, find_rscript(), stage)
    try:
        subject.start()
    finally:
        subject.stage = _nobody
    model = LoadedModel(subject, bundle, name=FILE, kind=InputKind.R_FRAME)
    model.extras = subject.extras
    model.companion = subject
    return model


class RModel:
    """The object with ``predict``. What model.R defines is told by attributes, as with any other model."""

    def __init__(self, bundle: Path, rscript: str, stage: Callable[[str], None]) -> None:
        self.stage = stage
        self.metrics: Callable[[], Any] | None = None
        self.tags: Callable[[], Any] | None = None
        self.class_names: list[str] | None = None
        self.feature_names_in_: list[str] | None = None
        self.datatypes: dict[str, str] = {}
        self.extras: frozenset[str] = frozenset()
        self._features: tuple[Feature, ...] | None = None
        self._names_parameter: str | None = None
        self._has_health = False
        self._measured: RValue | None = None
        self._tagged: RValue | None = None
        self._rscript = rscript
        self._bundle = bundle
        self.process = RProcess(rscript, bundle, self._prepare)

    # -- the contract ------------------------------------------------------------------------------------

    def predict(self, X: Any, features_names: list[str] | None = None, **extras: Any) -> Any:  # noqa: N803
        """R's answer for a table, or for a body that goes to the model as it is."""
        arguments = {"X": frame(X, self._features) if isinstance(X, Table) else _plain(X)}
        if self._names_parameter is not None:
            arguments[self._names_parameter] = (
                r_serial.NULL if features_names is None else r_serial.character(features_names)
            )
        arguments.update((name, _plain(value)) for name, value in extras.items())
        try:
            answer = self.process.call(_message("predict", arguments))
        except RTooLate as error:
            raise DeadlineExceeded(str(error)) from None
        value, self._measured, self._tagged = self._answer(answer)
        try:
            return result_of(value)
        except ValueError as error:
            raise ModelFailed(f"predict returned {error}") from None

    def health_status(self) -> Any:
        """Whether R is there, by what model.R's ``health_status`` says. None while R is at work on a prediction."""
        message = _message("health" if self._has_health else "hello")
        data = self.process.try_call(message, HEALTH_LIMIT_S, HEALTH_WAIT_S)
        if data is None or not self._has_health:
            return None
        return unboxed(self._answer(data)[0])

    # -- as a companion ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Have an R process with the model loaded."""
        self.process.start()

    def begin(self, limit_s: float) -> None:
        """See :class:`headway.server.model.Companion`."""
        self.process.start()
        self.process.limit_s = limit_s

    def rest(self) -> None:
        """See :class:`headway.server.model.Companion`."""
        self.process.stop()

    # -- a new process -------------------------------------------------------------------------------------

    def _prepare(self, process: RProcess) -> None:
        def ask(message: bytes) -> Any:
            return unboxed(self._answer(process.exchange(message))[0])

        try:
            hello = ask(_message("hello"))
            process.scratch = str(hello["scratch"])
            self._check_version(str(hello["version"]))
            self._check_packages(ask)
            told = ask(_message("code"))
            self._take_functions(told)
            self.stage("load")
            described = self._answer(process.exchange(_message("load")))[0]
        except RError as error:
            raise _load_failure(error) from error
        assert described is not None
        self._take_description(described)

    def _check_version(self, version: str) -> None:
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise MissingBinary(f"{self._rscript} is R {version}, {oldest} or newer is needed", where="HEADWAY_RSCRIPT")

    def _check_packages(self, ask: Callable[[bytes], Any]) -> None:
        path = self._bundle / r_packages.FILE
        if not path.is_file():
            return
        try:
            needs = r_packages.parse(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise LoadFailed(f"it cannot be read: {error}", where=r_packages.FILE) from None
        if not needs:
            return
        names = r_serial.character([need.name for need in needs])
        versions = ask(_message("packages", names))["versions"]
        installed: list[str | None] = versions if isinstance(versions, list) else [versions]
        wanted = [need.version or version or "0" for need, version in zip(needs, installed, strict=True)]
        given = r_serial.character([version or "0" for version in installed])
        compared = ask(_message("compare", given, r_serial.character(wanted)))
        r_packages.check(needs, installed, compared if isinstance(compared, list) else [compared])

    def _take_functions(self, told: dict[str, Any]) -> None:
        functions, parameters = _listed(told["functions"]), told["parameters"]
        if parameters is None:
            raise LoadFailed(
                "model.R defines no function predict", where=FILE, hint="predict <- function(X, features_names) ..."
            )
        names, needed = _listed(parameters["names"]), _listed(parameters["needed"])
        open_ended = "..." in names
        if not names:
            raise LoadFailed("predict takes no input", where=FILE, hint="predict <- function(X, features_names) ...")
        rest = names[1:]
        taken = next((name for name in NAME_PARAMETERS if name in rest), NAME_PARAMETERS[0] if open_ended else None)
        self._names_parameter = taken
        self.extras = frozenset(name for name in EXTRAS if open_ended or name in rest)
        known = {taken, "...", *EXTRAS}
        missing = [name for name, must in zip(rest, needed[1:], strict=True) if must and name not in known]
        if missing:
            raise LoadFailed(
                f"predict needs {', '.join(missing)} beside its input",
                where=FILE,
                hint="predict <- function(X, features_names); other parameters need defaults",
            )
        self.metrics = self._metrics if "metrics" in functions else None
        self.tags = self._tags if "tags" in functions else None
        self._has_health = "health_status" in functions

    def _take_description(self, described: RValue) -> None:
        features, class_names = described.values
        try:
            self._features = features_of(features)
        except ValueError as error:
            raise LoadFailed(str(error), where=FILE) from None
        self.class_names = class_names.values or None
        if self._features is not None:
            self.feature_names_in_ = [feature.name for feature in self._features]
            self.datatypes = {f.name: _DATATYPES.get(f.type, "BYTES") for f in self._features}

    # -- answers ---------------------------------------------------------------------------------------------

    def _metrics(self) -> Any:
        found = self._asked(self._measured)
        return [found] if isinstance(found, dict) else found

    def _tags(self) -> Any:
        return self._asked(self._tagged)

    def _asked(self, answer: RValue | None) -> Any:
        return None if answer is None else unboxed(self._settled(answer)[1])

    def _answer(self, data: bytearray) -> tuple[RValue | None, RValue | None, RValue | None]:
        """The value, and what ``metrics`` and ``tags`` had to say."""
        answer = r_serial.read(data)
        assert answer is not None
        parts = [*self._settled(answer), None, None]
        return parts[1], parts[2], parts[3]

    def _settled(self, answer: RValue) -> list[RValue | None]:
        """The parts of an answer that is none of failure. Raises :class:`RError` or ``InvalidRequest``."""
        parts: list[Any] = answer.values
        status = parts[0].values[0]
        if status == "ok":
            return parts
        _, message, place, calls, absent = parts
        text = " ".join(str(message.values[0]).split())
        if len(text) > MAX_MESSAGE_CHARS:
            text = text[:MAX_MESSAGE_CHARS] + "..."
        if status == "invalid":
            raise InvalidRequest(text)
        where = None if place is None else str(place.values[0])
        package = _ABSENT.search(text) if absent.values[0] else None
        hint = r_packages.how_to_install([package[1]]) if package is not None else None
        raise RError(UserFailure(text or "an error without a message", where, hint), calls.values)


def _plain(value: Any) -> bytes:
    try:
        return r_serial.value_of(value)
    except r_serial.NoData as error:
        raise InvalidRequest(f"R cannot hold {error}") from None


def _message(what: str, *arguments: bytes | dict[str, bytes]) -> bytes:
    parts = [r_serial.character([what])]
    for argument in arguments:
        if isinstance(argument, dict):
            names = r_serial.attributes({"names": r_serial.character(list(argument))})
            argument = r_serial.items(list(argument.values()), names)
        parts.append(argument)
    return r_serial.HEADER + r_serial.items(parts)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _load_failure(error: RError) -> HeadwayError:
    failure = error.failure
    hint = failure.hint and f"{failure.hint}; and list it in {r_packages.FILE}"
    kind = OutOfMemory if _NO_MEMORY.search(failure.message) else LoadFailed
    return kind(failure.message, where=failure.where, hint=hint)


def _nobody(_: str) -> None:
    """The stage of a start is nobody's business once the server runs."""
