"""Walking through a document from elsewhere: every key is taken, or refused by name with its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from headway.domain.errors import InvalidSpec, Unsupported


def unsupported(where: str, message: str, hint: str | None = None) -> NoReturn:
    """Refuse what the document may say, and Headway cannot do."""
    raise Unsupported(message, where=where, hint=hint)


def wrong(where: str, message: str, hint: str | None = None) -> NoReturn:
    """Refuse what the document must not say."""
    raise InvalidSpec(message, where=where, hint=hint)


class Fields:
    """A mapping at ``path``. What stands there as null does not stand there, as in Kubernetes."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            wrong(path, "must be a mapping")
        self._left = {key: item for key, item in value.items() if item is not None}
        self._known: list[str] = []
        self.path = path

    def at(self, key: str) -> str:
        """The place of ``key``."""
        return f"{self.path}.{key}".lstrip(".")

    def has(self, key: str) -> bool:
        """Whether it is there and was not taken yet."""
        return key in self._left

    def take(self, key: str) -> Any:
        """What stands under ``key``, which counts as looked at; None for nothing."""
        self._known.append(key)
        return self._left.pop(key, None)

    def text(self, key: str) -> str | None:
        """A string."""
        found = self.take(key)
        if found is not None and not isinstance(found, str):
            wrong(self.at(key), "must be a string (quote numbers and words such as yes)")
        return found

    def whole(self, key: str, least: int = 0) -> int | None:
        """A whole number."""
        found = self.take(key)
        if found is not None and (isinstance(found, bool) or not isinstance(found, int) or found < least):
            wrong(self.at(key), f"must be a whole number from {least}")
        return found

    def flag(self, key: str) -> bool:
        """true or false; false when it is not there."""
        found = self.take(key)
        if found is not None and not isinstance(found, bool):
            wrong(self.at(key), "must be true or false")
        return bool(found)

    def part(self, key: str) -> Fields | None:
        """A mapping below this one."""
        found = self.take(key)
        return None if found is None else Fields(found, self.at(key))

    def parts(self, key: str) -> list[Fields]:
        """A list of mappings."""
        found = self.take(key)
        if found is not None and not isinstance(found, list):
            wrong(self.at(key), "must be a list")
        return [Fields(item, f"{self.at(key)}[{index}]") for index, item in enumerate(found or ())]

    def words(self, key: str) -> dict[str, str]:
        """A mapping of strings, such as labels."""
        found = self.part(key)
        return {} if found is None else {name: found.text(name) or "" for name in [*found.names()]}

    def names(self) -> Iterable[str]:
        """The keys that are left."""
        return self._left.keys()

    def drop(self, *keys: str) -> None:
        """Keys that mean nothing here and do no harm."""
        for key in keys:
            self.take(key)

    def refuse(self, **reasons: str) -> None:
        """Keys that cannot be honoured, each with the reason; an empty string, list or mapping says nothing."""
        for key, reason in reasons.items():
            if self.take(key) not in (None, "", [], {}, False):
                unsupported(self.at(key), f"{key} is not supported: {reason}")

    def done(self) -> None:
        """Refuse what nobody took."""
        for key in self._left:
            close = difflib.get_close_matches(str(key)[:100], self._known, n=1, cutoff=0.7)
            if close:
                wrong(self.at(str(key)), f"unknown field; did you mean {close[0]}?")
            unsupported(
                self.at(str(key)), f"{str(key)[:60]} is not supported", f"supported here: {', '.join(self._known)}"
            )


class Notes:
    """What is done in another way than the document's own platform would."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, where: str, text: str) -> None:
        """Once, however often it is said."""
        line = f"{where}: {text}"
        if line not in self.found:
            self.found.append(line)
