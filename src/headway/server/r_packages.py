"""``R-packages.txt``: which packages of R a model needs, and whether they are there.

One a line, as in the field ``Imports`` of a package's DESCRIPTION: ``jsonlite`` or ``jsonlite (>= 1.8)``; ``R`` is R
itself; ``#`` begins a comment. Nothing is installed: R's packages are the machine's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from headway.domain.errors import LoadFailed

FILE: Final = "R-packages.txt"
_LINE: Final = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9.]*)\s*(?:\(\s*(?P<in>[^()]*?)\s*\)|(?P<bare>[<>=].*))?")
_BOUND: Final = re.compile(r"(?P<operator>>=|<=|==|>|<)\s*(?P<version>\d+(?:[.-]\d+)*)")


@dataclass(frozen=True, slots=True)
class Need:
    """One package, and what its version must be."""

    name: str
    where: str
    operator: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        return self.name if self.operator is None else f"{self.name} ({self.operator} {self.version})"

    def allows(self, compared: int) -> bool:
        """Whether a version will do of which R's ``compareVersion`` with the wanted one says -1, 0 or 1."""
        allowed = {">=": (0, 1), "<=": (-1, 0), "==": (0,), ">": (1,), "<": (-1,)}
        return self.operator is None or compared in allowed[self.operator]


def parse(text: str) -> list[Need]:
    """What the file's ``text`` asks for. Raises ``LoadFailed`` that names the line."""
    needs = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.partition("#")[0].strip()
        if not stripped:
            continue
        where = f"{FILE}:{number}"
        match = _LINE.fullmatch(stripped)
        told = (match["in"] or match["bare"]) if match else None
        bound = _BOUND.fullmatch(told.strip()) if told else None
        if match is None or (match["in"] is not None and bound is None) or (told and bound is None):
            raise LoadFailed(
                f"{stripped[:80]!r} names no package", where=where, hint="write jsonlite or jsonlite (>= 1.8)"
            )
        needs.append(Need(match["name"], where, *(bound.groups() if bound else ())))
    return needs


def check(needs: Sequence[Need], installed: Sequence[str | None], compared: Sequence[int]) -> None:
    """Raise ``LoadFailed`` unless all ``needs`` are met.

    ``installed`` are the versions in the same order, None where there is none; ``compared`` those with the wanted ones.
    """
    missing = [need for need, version in zip(needs, installed, strict=True) if version is None]
    wrong = [
        (need, version)
        for need, version, result in zip(needs, installed, compared, strict=True)
        if version is not None and not need.allows(result)
    ]
    if not missing and not wrong:
        return
    parts = []
    if missing:
        parts.append(f"R packages are missing: {', '.join(map(str, missing))}")
    if wrong:
        parts.append("; ".join(f"{need} is needed, {version} is installed" for need, version in wrong))
    first = missing[0] if missing else wrong[0][0]
    names = [need.name for need in (*missing, *(need for need, _ in wrong)) if need.name != "R"]
    hint = how_to_install(names) if names else "name another R in HEADWAY_RSCRIPT"
    raise LoadFailed("; ".join(parts), where=first.where, hint=hint)


def how_to_install(names: Iterable[str]) -> str:
    """For a hint."""
    found = list(names)
    debian = " ".join(f"r-cran-{name.lower()}" for name in found)
    quoted = ", ".join(f'"{name}"' for name in found)
    listed = quoted if len(found) == 1 else f"c({quoted})"
    return f"Debian, Ubuntu: apt-get install {debian}; or in R: install.packages({listed})"
