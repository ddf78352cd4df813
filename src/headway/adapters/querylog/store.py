"""The parts of the query log: which of them to read, what they say of themselves, how they are added and removed.

Which files count is decided by :mod:`.manifest`, how one is written by :mod:`.part_files`; a :class:`~.directory.Place`
keeps them. A file is checked byte for byte the first time that this process reads it and whenever it has changed; one
that does not pass is left out of every answer, and counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import duckdb
import numpy as np

from headway.adapters.querylog.directory import Directory, Place, Stored
from headway.adapters.querylog.manifest import (
    Account,
    Choice,
    Chosen,
    Holding,
    Note,
    choose,
    hour_of,
    merge_holds,
    merged_name,
    part_name,
)
from headway.adapters.querylog.part_files import (
    TAIL_BYTES,
    TYPES,
    Damaged,
    duck,
    files_sql,
    note_in,
    quoted,
    verify,
    write,
)
from headway.domain.errors import StorageFailed

log = logging.getLogger("headway.querylog")

_MOST_NOTES: Final = 50_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A Parquet file on this machine, sorted by ``(ts_ns, stream, seq)``; gone when it is opened: ask again."""

    path: Path
    rows: int
    first_ns: int
    last_ns: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """What all parts of a model say of the sources they are made from."""

    accounts: tuple[Account, ...]
    damaged: int
    """Files that cannot be read; what they held shows as holes between sequence numbers."""


class PartStore:
    """Parts in a :class:`Place`. May be used from several tasks and threads."""

    def __init__(self, place: Place, types: Mapping[str, str] = TYPES) -> None:
        """``types``: columns of every file; among them ``ts_ns``, ``stream`` and ``seq``."""
        self._place = place
        self._types = types
        self._lock = threading.Lock()
        self._notes: dict[tuple[str, str], Note | None] = {}
        self._sound: dict[tuple[str, str], bool] = {}

    @classmethod
    def directory(cls, root: Path) -> PartStore:
        """Parts in a directory of this machine."""
        return cls(Directory(root))

    @classmethod
    def object_storage(cls, url: str, cache: Path, *, cache_bytes: int = 2 * 1024**3) -> PartStore:
        """Parts in ``s3://bucket/prefix``, read through a folder of this machine.

        Raises ``InvalidInput`` for another kind of place, ``MissingExtra`` without ``headway[s3]``.
        """
        from headway.adapters.querylog.object_storage import ObjectStorage  # of an extra, and not light

        return cls(ObjectStorage(url, cache, cache_bytes=cache_bytes))

    def beside(self, name: str, types: Mapping[str, str]) -> PartStore:
        """Parts of something else, in a place called ``name`` within this one's."""
        return PartStore(self._place.beside(name), types)

    # -- questions ---------------------------------------------------------------------------------

    async def parts(
        self, model: str, since_ns: int, until_ns: int, *, live: frozenset[str] = frozenset()
    ) -> list[Part]:
        """Files that together hold each record of the hours of ``[since_ns, until_ns)`` exactly once, by time.

        ``live`` names segments (with or without suffix) that the caller reads himself, and the gateway's mark
        (``GatewayMark.live_name``): what those hold is in none of the files. List them before asking, not after:
        what becomes a part in between is then left out here and not missed there. Raises ``StorageFailed``.
        """
        return await in_thread(partial(self._parts, model, since_ns, until_ns, live))

    async def accounts(self, model: str) -> Accounts:
        """Of all parts of ``model``. Raises ``StorageFailed``."""
        return await in_thread(partial(self._accounts, model))

    async def sizes(self) -> dict[str, int]:
        """Bytes kept, by model. Raises ``StorageFailed``."""
        return await in_thread(self.sizes_now)

    def _parts(self, model: str, since_ns: int, until_ns: int, live: frozenset[str]) -> list[Part]:
        if until_ns <= since_ns:
            return []
        found: list[Part] = []
        for choice in self.choices(model, hour_of(since_ns), hour_of(until_ns - 1), live).values():
            for chosen in choice.chosen:
                if chosen.note.rows:
                    path = self._without(chosen) if chosen.hidden else self._place.local(chosen.file)
                    note = chosen.note
                    found.append(
                        Part(
                            path=path,
                            rows=note.rows,
                            first_ns=note.first_ns,
                            last_ns=note.last_ns,
                            size=chosen.file.size,
                        )
                    )
        return sorted(found, key=lambda part: (part.first_ns, part.path.name))

    def _accounts(self, model: str) -> Accounts:
        accounts: list[Account] = []
        damaged = 0
        for choice in self.choices(model, whole=False).values():
            damaged += len(choice.damaged)
            accounts += [
                hold.account for chosen in choice.chosen for hold in chosen.note.holds if hold.account is not None
            ]
        return Accounts(accounts=tuple(accounts), damaged=damaged)

    def _without(self, chosen: Chosen[Stored]) -> Path:
        """A copy of a merged file without what it holds of live sources: a moment's view between two states."""
        hidden = sorted(chosen.hidden, key=lambda hold: hold.source)
        text = "\n".join([chosen.file.path, chosen.file.tag, *(hold.source for hold in hidden)])
        view = self._place.scratch / "views" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.parquet"
        if not view.exists():
            view.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            spans = [span for hold in hidden for span in hold.spans]
            keep = " AND ".join(
                f"NOT (stream = {quoted(stream)} AND seq BETWEEN {low} AND {high})" for stream, low, high in spans
            )
            select = f"SELECT * FROM {files_sql([self._place.local(chosen.file)])} WHERE {keep or 'true'}"  # noqa: S608
            draft = self.draft()
            with duck(self._place.scratch) as connection:
                empty = Note(rows=0, first_ns=0, last_ns=0, made_ns=0, holds=())
                write(connection, select, empty, draft, self._types)
            os.replace(draft, view)
        return view

    # -- for compaction (from a thread) ------------------------------------------------------------

    @property
    def place(self) -> Place:
        return self._place

    def several(self, model: str, last_hour: int) -> list[int]:
        """Hours up to ``last_hour`` of which more than one file counts."""
        choices = self.choices(model, None, last_hour, whole=False)
        return [hour for hour, choice in choices.items() if len(choice.chosen) > 1]

    def sizes_now(self) -> dict[str, int]:
        sizes: Counter[str] = Counter()
        for stored in self._place.files(None):
            sizes[stored.model] += stored.size
        return dict(sizes)

    def draft(self) -> Path:
        """A name for a file on its way."""
        self._place.scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._place.scratch / f"draft-{secrets.token_hex(8)}.parquet"

    def choices(
        self,
        model: str,
        first_hour: int | None = None,
        last_hour: int | None = None,
        live: frozenset[str] = frozenset(),
        *,
        whole: bool = True,
    ) -> dict[int, Choice[Stored]]:
        """By hour, which files count. ``whole``: every byte of those was checked, else their notes only."""
        hours: dict[int, list[Stored]] = {}
        for stored in self._place.files(model, first_hour, last_hour):
            hours.setdefault(stored.hour, []).append(stored)
        return {hour: self._choose(files, live, whole) for hour, files in sorted(hours.items())}

    def _choose(self, files: list[Stored], live: frozenset[str], whole: bool) -> Choice[Stored]:
        files.sort(key=lambda stored: stored.name)
        notes: dict[str, Note | None] = {}
        present = []
        for stored in files:
            with suppress(FileNotFoundError):  # removed since it was listed: another file holds what it held
                notes[stored.name] = self._note(stored)
                present.append(stored)
        while True:
            choice = choose(present, notes, live)
            unsound = [chosen.file for chosen in choice.chosen if whole and not self.is_sound(chosen.file)]
            if not unsound:
                return choice
            notes.update({stored.name: None for stored in unsound})

    def _note(self, stored: Stored) -> Note | None:
        key = (stored.path, stored.tag)
        with self._lock:
            if self._sound.get(key) is False:
                return None
            if key in self._notes:
                return self._notes[key]
        note: Note | None = None
        try:
            needed = TAIL_BYTES
            while note is None:
                note, needed = note_in(self._place.tail(stored, needed), stored.size)
        except Damaged as error:
            log.error("the part %s of the query log is damaged and left out (%s)", stored.path, error)
        with self._lock:
            if len(self._notes) >= _MOST_NOTES:
                self._notes.clear()
            self._notes[key] = note
        return note

    def is_sound(self, stored: Stored) -> bool:
        """Whether every byte of a file is as it was written."""
        key = (stored.path, stored.tag)
        with self._lock:
            if key in self._sound:
                return self._sound[key]
        try:
            sound = self._verify(stored)
        except FileNotFoundError:
            return True  # removed since: whoever opens it will notice
        with self._lock:
            if len(self._sound) >= _MOST_NOTES:
                self._sound.clear()
            self._sound[key] = sound
        return sound

    def _verify(self, stored: Stored) -> bool:
        try:
            verify(self._place.local(stored))
        except Damaged as error:
            if (fetched := self._place.again(stored)) is not None:
                with suppress(Damaged):
                    verify(fetched)
                    return True
            log.error("the part %s of the query log is damaged and left out (%s)", stored.path, error)
            return False
        return True

    def add(
        self, model: str, hour: int, select: str, hold: Holding, connection: duckdb.DuckDBPyConnection, now_ns: int
    ) -> None:
        """Keep the rows of ``select`` as the part of a source in one hour, in place of an earlier try."""
        first, last = _span(connection, select)
        note = Note(rows=hold.rows, first_ns=first, last_ns=last, made_ns=now_ns, holds=(hold,))
        self._put(connection, select, note, model, hour, part_name(hold.source), new=False)

    def merge(
        self,
        model: str,
        hour: int,
        files: Sequence[Chosen[Stored]],
        number: int,
        now_ns: int,
        gone: Sequence[tuple[str, int]] = (),
    ) -> bool:
        """Put one file in place of ``files``, without the records that ``gone`` names by ``(stream, seq)``.

        False: somebody else took ``number``; nothing was changed.
        """
        with duck(self._place.scratch) as connection:
            select = f"SELECT * FROM {files_sql([self._place.local(chosen.file) for chosen in files])}"  # noqa: S608
            rows = sum(chosen.note.rows for chosen in files)
            if gone:
                streams = np.array([stream for stream, _ in gone], dtype=object)
                connection.register("gone", {"stream": streams, "seq": np.array([seq for _, seq in gone], np.int64)})
                select += " ANTI JOIN gone USING (stream, seq)"
                found = connection.execute(f"SELECT count(*) FROM ({select})").fetchone()  # noqa: S608
                rows = int(found[0]) if found else 0
            first, last = _span(connection, select)
            holds = merge_holds(chosen.note for chosen in files)
            note = Note(rows=rows, first_ns=first, last_ns=last, made_ns=now_ns, holds=holds)
            return self._put(connection, select, note, model, hour, merged_name(number), new=True)

    def _put(
        self,
        connection: duckdb.DuckDBPyConnection,
        select: str,
        note: Note,
        model: str,
        hour: int,
        name: str,
        *,
        new: bool,
    ) -> bool:
        draft = self.draft()
        try:
            write(connection, select, note, draft, self._types)
            return self._place.put(draft, model, hour, name, new=new)
        finally:
            draft.unlink(missing_ok=True)


def _span(connection: duckdb.DuckDBPyConnection, select: str) -> tuple[int, int]:
    found = connection.execute(f"SELECT min(ts_ns), max(ts_ns) FROM ({select})").fetchone()  # noqa: S608
    return (int(found[0]), int(found[1])) if found and found[0] is not None else (0, 0)


async def in_thread(work: Callable[[], T]) -> T:
    """``work()`` off the loop; what the system refuses is ``StorageFailed``."""
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise storage_failed(error) from error


def storage_failed(error: OSError) -> StorageFailed:
    place = f" ({error.filename})" if error.filename else ""
    return StorageFailed(f"the query log could not be read or written: {error.strerror or error}{place}")
