"""What applying a document would change, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Diff:
    """What applying a document would change: ``(path, old, new)`` each."""

    exists: bool
    new_version: bool
    changes: tuple[tuple[str, Any, Any], ...]


def differences(path: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """The fields in which two JSON values differ, each by its path below ``path``."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(old.keys() | new.keys()):
            found.extend(differences(f"{path}.{key}", old.get(key), new.get(key)))
        return found
    return [] if old == new else [(path, old, new)]
