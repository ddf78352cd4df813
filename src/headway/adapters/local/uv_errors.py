"""From what uv says to one line that names the requirement, and a hint what to do about it.

uv's words are for people at a terminal and may change between its releases; what is not recognised
here is passed on as uv's own first error line, so a new wording costs clarity and nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from headway.adapters.local.requirements import RequirementsFiles, line_of, redacted
from headway.domain.errors import EnvironmentFailed

_MAX_DETAILS = 8_000
_SYNTAX = re.compile(r"in `(?P<file>[^`]+)` at position (?P<position>\d+)(?:: (?P<inline>.+))?\n?")
_CAUSE = re.compile(r"^\s*cause: (?P<text>.+)$", re.MULTILINE)
# A word must begin where the expression does: else a long word (a build may print anything) costs the
# square of its length.
_UNKNOWN = re.compile(r"(?<![\w.-])(?P<name>[\w.-]+) was not found in (?P<place>[^,\n]+?)(?= and |,|$)", re.MULTILINE)
_NO_VERSION = re.compile(r"(?:there is|there are) no versions? of (?P<what>[^,\s]+)")
_ONLY = re.compile(r"only (?P<what>.+?) (?:is|are) available")
_NOT_FOR_US = re.compile(r"(?<!\S)(?P<what>\S+) has no (?:usable wheels|wheels with a matching [^()]+?tag)")
_REQUIRE = re.compile(r"you require (?P<what>.+?), we can conclude", re.DOTALL)
_BUILD = re.compile(r"Failed to (?:build|download and build) `(?P<what>[^`]+)`")
_HASH = re.compile(r"Hash mismatch for `(?P<what>[^`]+)`")
_URL = re.compile(r"(?:Failed to fetch: |request for url \()`?(?P<url>[^\s)`]+)")
_STATUS = re.compile(r"HTTP status (?:client|server) error \((?P<status>\d{3}[^)]*)\)")
_NETWORK: Final = (
    "client error (Connect)",
    "error sending request",
    "Could not connect",
    "dns error",
    "timed out",
    "Request failed after",
    "network was disabled",
)
_FIRST_ERROR = re.compile(r"^error: (?P<text>.+)$", re.MULTILINE)


def explain(output: str, files: RequirementsFiles, bundle: Path, server: frozenset[str]) -> EnvironmentFailed:
    """The error to raise for uv's ``output``; ``server`` names the packages that the model server needs."""
    message, where, hint = (
        _syntax(output, files, bundle)
        or _offline(output)
        or _missing(output, files)
        or _conflict(output, files, server)
        or _failed(output, files)
        or _unknown(output)
    )
    return EnvironmentFailed(message, where=where, hint=hint, details={"output": output[-_MAX_DETAILS:]})


_Explained = tuple[str, str | None, str | None]


def _syntax(output: str, files: RequirementsFiles, bundle: Path) -> _Explained | None:
    matches = [*_SYNTAX.finditer(output)]
    if not matches:
        return None
    match = matches[-1]  # the ones before it are the files that include it
    cause = match["inline"] or next((m["text"] for m in _CAUSE.finditer(output, match.end() - 1)), "syntax error")
    name = match["file"]
    for path, text in files.texts:
        if name == path or name.endswith("/" + path) or Path(name) == bundle / path:
            # A position in bytes, at the end of the line before or at the beginning of the requirement.
            before = text.encode()[: int(match["position"])].decode(errors="ignore")
            line = before.count("\n") + 1
            rest = text.splitlines()[line - 1 :]
            while rest and not rest[0].strip():
                rest, line = rest[1:], line + 1
            shown = redacted(rest[0].strip())[:100] if rest else ""
            return f"{cause}: {shown!r}", f"{path}:{line}", "one requirement per line, as in pandas>=2,<3"
    return cause, name, None


def _offline(output: str) -> _Explained | None:
    status = _STATUS.search(output)
    if not status and not any(sign in output for sign in _NETWORK):
        return None
    url = _URL.search(output)
    place = url["url"] if url else "the package index"
    if status:
        hint = "check the address and the credentials for it"
        return f"{place} answered {status['status']}", None, hint
    return (
        f"{place} cannot be reached",
        None,
        "check the network and the index that uv is set up with (UV_DEFAULT_INDEX or uv.toml)",
    )


def _missing(output: str, files: RequirementsFiles) -> _Explained | None:
    if match := _UNKNOWN.search(output):
        name = match["name"]
        return f"{name} was not found in {match['place']}", line_of(files, name), "is the name spelled right?"
    if match := _NOT_FOR_US.search(output):
        what = match["what"]
        hint = re.search(r"^hint: (.+)$", output, re.MULTILINE)
        return f"{what} has no wheel for this Python", line_of(files, _name(what)), hint[1][:300] if hint else None
    required = _REQUIRE.findall(output)
    for pattern in (_NO_VERSION, _ONLY):
        match = pattern.search(output)
        if match and required:
            wish = next((r for r in _wishes(required[-1]) if _name(r) == _name(match["what"])), None)
            if wish:
                return f"there is no version {wish} to be had", line_of(files, _name(wish)), "ask for another version"
    return None


def _conflict(output: str, files: RequirementsFiles, server: frozenset[str]) -> _Explained | None:
    required = _REQUIRE.findall(output)
    if not required:
        return None
    wishes = _wishes(required[-1])
    ours = sorted({_name(w) for w in wishes} & server)
    hint = "loosen one of them"
    if ours:
        hint = f"the model server needs {', '.join(ours)} as Headway has it; leave it out of the requirements"
    places = [p for p in (line_of(files, _name(w)) for w in wishes) if p]
    return f"no versions can be found that satisfy {' and '.join(wishes)}", places[0] if places else None, hint


def _failed(output: str, files: RequirementsFiles) -> _Explained | None:
    if match := _HASH.search(output):
        what = match["what"]
        return (
            f"the file of {what} does not have the hash that is asked for",
            line_of(files, _name(what)),
            "make the lock again, or find out who changed the file",
        )
    if match := _BUILD.search(output):
        what = match["what"]
        return (
            f"{what} has no wheel for this Python and could not be built",
            line_of(files, _name(what)),
            "ask for a version with a wheel, or install what its build needs (see details)",
        )
    return None


def _unknown(output: str) -> _Explained:
    match = _FIRST_ERROR.search(output)
    causes = [m["text"] for m in _CAUSE.finditer(output)]
    first = match["text"] if match else (output.strip().splitlines() or ["uv failed"])[-1]
    return (f"{first}: {causes[-1]}" if causes else first)[:500], None, None


def _wishes(text: str) -> list[str]:
    parts = re.split(r",? and |, |\n", re.sub(r"^(?:one of|any of|all of):", "", text.strip()))
    return [part.strip() for part in parts if part.strip()]


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement.strip())
    return match[0].rstrip(".-_").lower() if match else requirement
