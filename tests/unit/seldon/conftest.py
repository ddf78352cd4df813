"""Folders that are known without a file system, and the documents."""

from __future__ import annotations

from pathlib import Path

DOCUMENTS = Path(__file__).parents[2] / "documents" / "seldon"


class Given:
    """Folders by container or image; ``entrypoints`` by folder."""

    def __init__(self, folders: dict[str, str] | None = None, **entrypoints: str) -> None:
        self._folders = folders or {}
        self._entrypoints = entrypoints

    def of(self, *names: str) -> str | None:
        return next((self._folders[name] for name in names if name in self._folders), None)

    def entrypoint(self, folder: str) -> str | None:
        return self._entrypoints.get(folder)
