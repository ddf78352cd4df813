"""Reading ``requirements.txt`` and ``requirements.lock`` of a bundle: what they may say, before uv sees them.

uv passes over options that it does not support with a warning; here they are refused, because a field
that is ignored is a lie. What points out of the bundle into this machine's file system is refused too:
the same bundle must mean the same environment anywhere. The syntax of a requirement itself is left
to uv to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headway.domain.errors import EnvironmentFailed

REQUIREMENTS: Final = "requirements.txt"
LOCK: Final = "requirements.lock"

_MAX_BYTES = 4 * 1024 * 1024
_MAX_FILES = 50
_OPTION = re.compile(r"(?P<name>--[A-Za-z-]+|-[A-Za-z])(?:\s*=\s*|\s+|(?=\S)|$)(?P<value>.*)")
_NAMED = re.compile(r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\]\s*)?(?P<rest>.*)")
_REMOTE = re.compile(r"(?:https?|git\+(?:https?|ssh)|hg\+https?|\$\{[A-Z0-9_]+\})", re.IGNORECASE)
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*==\s*([^\s;\\]+)")
_ARCHIVE = re.compile(r"\.(?:whl|zip|tar\.gz|tgz|tar\.bz2)(?:\s|$)", re.IGNORECASE)

_USERINFO = re.compile(r"(?<=://)[^/\s@'\"`]+@")

_INCLUDE = {"-r", "--requirement", "-c", "--constraint"}
_INDEX = {"-i", "--index-url", "--extra-index-url", "-f", "--find-links"}
_CARRIED = {"--no-index", "--no-binary", "--only-binary"}
_REFUSED = {
    "-e": "put the code into the model's folder, it is importable from there",
    "--editable": "put the code into the model's folder, it is importable from there",
    "--pre": "name the pre-release in the requirement, as in package>=2.0rc1",
    "--trusted-host": "set UV_INSECURE_HOST for the process that runs `headway up`",
}


@dataclass(frozen=True, slots=True)
class RequirementsFiles:
    """The files as they were found, and what must be repeated when the lock is installed."""

    texts: tuple[tuple[str, str], ...]
    """(path within the bundle, text), the first one first, then what it includes."""
    options: tuple[str, ...]
    """Lines for the lock: which indexes to look at, which packages not to build."""

    @property
    def canonical(self) -> str:
        """One text for all of it: equal texts are equal requirements."""
        return "".join(f"# {path}\n{text}\n" for path, text in self.texts)


@dataclass(frozen=True, slots=True)
class _Line:
    where: str
    text: str


def read_requirements(bundle: Path, start: str = REQUIREMENTS) -> RequirementsFiles:
    """``start`` and the files it includes. Raises ``EnvironmentFailed`` naming the line that is not allowed."""
    texts: dict[str, str] = {}
    options: list[str] = []
    waiting = [(start, start)]
    while waiting:
        path, where = waiting.pop(0)
        if path in texts:
            continue
        if len(texts) >= _MAX_FILES:
            raise EnvironmentFailed(f"more than {_MAX_FILES} requirements files", where=where)
        texts[path] = _read(bundle, path, where)
        for line in _lines(path, texts[path]):
            if not line.text.startswith("-"):
                _check_requirement(line)
                continue
            name, value = _option(line)
            if name in _INCLUDE and start != LOCK:
                waiting.append((_included(path, value, line), line.where))
            elif name in _INDEX:
                if not value.lower().startswith(("https://", "http://", "${")):
                    raise EnvironmentFailed(
                        f"{name} must be an http or https address", where=line.where, hint="folders are not looked at"
                    )
                options.append(f"{name} {value}")
            elif name in _CARRIED:
                options.append(f"{name} {value}".strip())
            else:
                raise EnvironmentFailed(
                    f"the option {name} is not supported",
                    where=line.where,
                    hint=_REFUSED.get(name, "see the how-to page on requirements for those that are"),
                )
    return RequirementsFiles(tuple(texts.items()), tuple(dict.fromkeys(options)))


def pins(lock: str) -> dict[str, tuple[str, str]]:
    """What ``lock`` pins: normalised name (PEP 503) -> (version, where)."""
    found = {}
    for line in _lines(LOCK, lock):
        if match := _PINNED.match(line.text):
            found[normalized(match[1])] = (match[2], line.where)
    return found


def package_count(lock: str) -> int:
    """How many packages ``lock`` names."""
    return sum(1 for line in _lines(LOCK, lock) if not line.text.startswith("-"))


def redacted(text: str) -> str:
    """``text`` without the user names and passwords of the URLs in it."""
    return _USERINFO.sub("****@", text)


def normalized(name: str) -> str:
    """A package name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def line_of(files: RequirementsFiles, package: str) -> str | None:
    """``requirements.txt:3``: where ``package`` is asked for; None when it is a dependency of something else."""
    for path, text in files.texts:
        for line in _lines(path, text):
            match = _NAMED.match(line.text)
            if match and normalized(match["name"]) == normalized(package):
                return line.where
    return None


def _read(bundle: Path, path: str, where: str) -> str:
    try:
        with (bundle / path).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise EnvironmentFailed(f"{path} cannot be read: {error.strerror}", where=where) from error
    if len(data) > _MAX_BYTES:
        raise EnvironmentFailed(f"the file is larger than {_MAX_BYTES} bytes", where=path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise EnvironmentFailed("the file is not UTF-8 text", where=f"{path}:{line}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise EnvironmentFailed("the file is not text: it holds a NUL", where=f"{path}:{line}")
    return text


def _lines(path: str, text: str) -> Iterator[_Line]:
    """Logical lines: continuations joined, comments and empty ones left out."""
    parts: list[str] = []
    first = 0
    for number, raw in enumerate(text.splitlines(), 1):
        first = first if parts else number
        stripped = re.sub(r"(^|\s)#.*$", "", raw).rstrip()
        if stripped.endswith("\\"):
            parts.append(stripped[:-1])
            continue
        joined = "".join([*parts, stripped]).strip()
        parts = []
        if joined:
            yield _Line(f"{path}:{first}", joined)
    if "".join(parts).strip():
        yield _Line(f"{path}:{first}", "".join(parts).strip())


def _option(line: _Line) -> tuple[str, str]:
    match = _OPTION.fullmatch(line.text)
    if not match:
        raise EnvironmentFailed("the line is neither an option nor a requirement", where=line.where)
    return match["name"], match["value"].strip().strip("\"'")


def _included(path: str, value: str, line: _Line) -> str:
    parts: list[str] = []
    for part in [*path.split("/")[:-1], *value.split("/")]:
        if part == ".." and parts:
            parts.pop()
        elif part == ".." or (not part and not parts):
            parts = []
            break
        elif part not in {"", "."}:
            parts.append(part)
    if not parts or "://" in value:
        raise EnvironmentFailed(
            f"{redacted(value)[:200]!r} is outside the model's folder",
            where=line.where,
            hint="include files of the folder only",
        )
    return "/".join(parts)


def _check_requirement(line: _Line) -> None:
    if _REMOTE.match(line.text):
        return
    match = _NAMED.match(line.text)
    rest = match["rest"] if match else ""
    by_url = rest.startswith("@")
    local = (
        line.text.startswith((".", "/", "~"))
        or line.text.lower().startswith("file:")
        or (by_url and not _REMOTE.match(rest[1:].strip()))
        or (not by_url and (rest.startswith(("/", "\\")) or bool(_ARCHIVE.search(line.text.split("--hash")[0]))))
    )
    if local:
        raise EnvironmentFailed(
            "a requirement cannot be a local file or folder",
            where=line.where,
            hint="put the code into the model's folder, or name the package, or give an https address",
        )


def completed(lock: str, needs: Sequence[str]) -> str:
    """A bundle's own lock, with the model server's ``needs`` where it does not name them.

    Raises ``EnvironmentFailed`` for one that pins another version of them.
    """
    pinned = pins(lock)
    missing = []
    for need in needs:
        name, _, wanted = need.partition("==")
        found, where = pinned.get(normalized(name), (None, None))
        if found is None:
            missing.append(need)
        elif found != wanted:
            raise EnvironmentFailed(
                f"the lock has {name}=={found}, the model server needs {need}",
                where=where,
                hint=f"take {name} out of the lock or pin {need}",
            )
    return lock.rstrip("\n") + "\n" + "".join(f"{need}\n" for need in missing)
