"""Files that describe a model: ModelDeployment documents, or a SeldonDeployment, which is read as such."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from headway.client.documents import Deployable, from_source, text_of, with_files
from headway.client.mlflow_source import Fetched, is_uri
from headway.domain.errors import InvalidInput, InvalidSpec
from headway.domain.seldon import Translation, is_seldon, translate
from headway.domain.spec import ModelDeployment, parse
from headway.domain.spec_document import read_each

S2I: Final = Path(".s2i") / "environment"
"""Where Seldon's image builder is told which code to run."""
_MOST_S2I_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file says; all of its documents are of one model."""

    path: Path
    documents: tuple[ModelDeployment, ...]
    data: tuple[dict[str, Any], ...]
    """The documents as plain data, as short as they were written or translated."""
    notes: tuple[str, ...] = ()
    """What is done in another way than the file's own platform would."""

    def deployables(self, fetch: Callable[[str], Fetched]) -> list[Deployable]:
        """Each document with its files; ``fetch`` gets those of a URI. Raises ``InvalidBundle``."""
        return [
            from_source(fetch(document.spec.model.path), None, None, document)
            if is_uri(document.spec.model.path)
            else with_files(document, self.path)
            for document in self.documents
        ]


def read_manifest(path: Path, models: Mapping[str, Path] | None = None) -> Manifest:
    """The manifest at ``path``. ``models``: of a SeldonDeployment, folders by container or image.

    Raises ``InvalidSpec``, ``Unsupported``, ``InvalidTraffic``; ``where`` begins with file, line and column.
    """
    given = {name: folder.expanduser() for name, folder in (models or {}).items()}
    for name, folder in given.items():
        if not folder.is_dir():
            raise InvalidInput(f"there is no folder {folder}", where=f"--model {name}")
    found = read_each(text_of(path), str(path))
    documents: list[ModelDeployment] = []
    data: list[dict[str, Any]] = []
    notes: list[str] = []
    folders = _Folders(path.parent, given)
    for content, place in found:
        if not is_seldon(content):
            documents.append(place.run(parse, content))
            data.append(dict(content) if isinstance(content, dict) else {})
            continue
        if len(found) > 1:
            raise InvalidSpec(
                "a SeldonDeployment stands beside other documents", where=str(path), hint="a file for each"
            )
        translation: Translation = place.run(lambda one: translate(one, folders), content)
        documents = [parse(document) for document in translation.documents]
        data, notes = translation.documents, translation.notes
    unused = [name for name in given if name not in folders.asked]
    if unused:
        seldon = any(is_seldon(content) for content, _ in found)
        known = ", ".join(folders.known) if seldon else "--model is for the containers of a SeldonDeployment"
        raise InvalidInput(
            f"{path} has no container or image {unused[0]!r}",
            where=f"--model {unused[0]}",
            hint=f"it has {known or 'none'}" if seldon else known,
        )
    names = {document.metadata.name for document in documents}
    if len(names) > 1:
        raise InvalidSpec(
            f"documents of several models: {', '.join(sorted(names))}", where=str(path), hint="a file each"
        )
    return Manifest(path, tuple(documents), tuple(data), tuple(notes))


class _Folders:
    """Folders on this machine, as paths that count from where the document lies."""

    def __init__(self, home: Path, given: Mapping[str, Path]) -> None:
        self._home = home
        self._given = given
        self.asked: set[str] = set()
        self.known: dict[str, None] = {}
        """What folders could be given for."""

    def of(self, *names: str) -> str | None:
        """See :class:`headway.domain.seldon.Folders`."""
        self.known.update(dict.fromkeys(names[:2]))
        for name in names:
            if name in self._given:
                self.asked.add(name)
                return os.path.relpath(self._given[name], self._home)
        return None

    def entrypoint(self, folder: str) -> str | None:
        """As Seldon's image builder is told it, where there is no ``model.py`` that would be found."""
        place = self._home / folder
        if (place / "model.py").is_file():
            return None
        try:
            with (place / S2I).open("rb") as file:
                text = file.read(_MOST_S2I_BYTES).decode(errors="replace")
        except OSError:
            return None
        found = re.search(r"^\s*MODEL_NAME\s*=\s*([\w.]+)\s*$", text, re.M)
        if found is None:
            return None
        module, _, attribute = found[1].rpartition(".")
        return f"{module or attribute}:{attribute}"
