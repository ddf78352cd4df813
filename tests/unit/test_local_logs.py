"""Reading logs: the end of them, all of them, and following them over rotations."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.adapters.local import logs
from headway.adapters.local.records import ReplicaFolder
from headway.adapters.memory.clock import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def folder(tmp_path: Path) -> ReplicaFolder:
    return ReplicaFolder(tmp_path)


def append(folder: ReplicaFolder, text: str) -> None:
    with folder.log.open("a") as file:
        file.write(text)


def rotate(folder: ReplicaFolder, keep: int = 3) -> None:
    """As the model server does it: rename, then a new file."""
    for number in range(keep, 1, -1):
        if (folder.path / f"log.{number - 1}").exists():
            os.replace(folder.path / f"log.{number - 1}", folder.path / f"log.{number}")
    os.replace(folder.log, folder.path / "log.1")
    folder.log.touch()


async def whole(folder: ReplicaFolder, tail_lines: int | None = None) -> str:
    reading = logs.read(folder, tail_lines=tail_lines, follow=lambda: False, clock=ManualClock())
    return b"".join([chunk async for chunk in reading]).decode()


class Follower:
    def __init__(self, folder: ReplicaFolder, tail_lines: int | None = None) -> None:
        self.clock = ManualClock()
        self.going_on = True
        self.got = ""
        reading = logs.read(folder, tail_lines=tail_lines, follow=lambda: self.going_on, clock=self.clock)
        self.task = asyncio.create_task(self._read(reading))

    async def _read(self, reading: AsyncIterator[bytes]) -> None:
        async for chunk in reading:
            self.got += chunk.decode()

    async def look(self) -> str:
        await self.clock.elapse(logs.FOLLOW_POLL_S * 1.5)
        return self.got

    async def end(self) -> str:
        self.going_on = False
        await self.look()
        assert self.task.done()
        return self.got


@pytest.mark.parametrize(
    ("written", "lines", "tail"),
    [
        ("a\nb\nc\n", 2, "b\nc\n"),
        ("a\nb\nc", 2, "b\nc"),
        ("a\nb\nc\n", 3, "a\nb\nc\n"),
        ("a\nb\nc\n", 99, "a\nb\nc\n"),
        ("a\nb\nc\n", 0, ""),
        ("a\nb\nc", 0, ""),
        ("a\n\n\n", 2, "\n\n"),
        ("", 5, ""),
        ("a\nb\n", None, "a\nb\n"),
        ("x" * 200_000 + "\n" + "y" * 200_000 + "\n", 1, "y" * 200_000 + "\n"),
    ],
)
async def test_the_last_lines(folder: ReplicaFolder, written: str, lines: int | None, tail: str) -> None:
    append(folder, written)
    assert await whole(folder, lines) == tail


async def test_rotated_files_come_first_and_lines_are_counted_across_them(folder: ReplicaFolder) -> None:
    for number in range(4):
        append(folder, f"{number}a\n{number}b\n")
        if number < 3:
            rotate(folder)
    assert await whole(folder) == "0a\n0b\n1a\n1b\n2a\n2b\n3a\n3b\n"
    assert await whole(folder, 3) == "2b\n3a\n3b\n"
    assert await whole(folder, 4) == "2a\n2b\n3a\n3b\n"
    assert await whole(folder, 5) == "1b\n2a\n2b\n3a\n3b\n"


async def test_a_line_cut_by_rotation_is_one_line(folder: ReplicaFolder) -> None:
    append(folder, "one\ntw")
    rotate(folder)
    append(folder, "o\n")
    assert await whole(folder, 1) == "two\n"
    rotate(folder)  # the present file is empty
    assert await whole(folder, 1) == "two\n"


async def test_no_log_is_an_empty_log(folder: ReplicaFolder) -> None:
    assert await whole(folder) == ""
    assert await whole(folder, 5) == ""


async def test_following_starts_before_there_is_a_log(folder: ReplicaFolder) -> None:
    follower = Follower(folder)
    assert await follower.look() == ""
    append(folder, "here\n")
    assert await follower.look() == "here\n"
    assert await follower.end() == "here\n"


async def test_following_goes_over_several_rotations_between_two_looks(folder: ReplicaFolder) -> None:
    append(folder, "0\n")
    follower = Follower(folder, tail_lines=0)
    await follower.look()
    expected = ""
    for number in range(1, 10):
        append(folder, f"{number}\n")
        rotate(folder)
        append(folder, f"{number}'\n")
        expected += f"{number}\n{number}'\n"
        if number % 2:
            assert await follower.look() == expected
    assert await follower.end() == expected


async def test_following_reads_what_is_left_when_its_file_was_rotated_away(folder: ReplicaFolder) -> None:
    append(folder, "0\n")
    follower = Follower(folder)
    await follower.look()
    append(folder, "0'\n")
    for number in range(1, 7):
        rotate(folder)
        append(folder, f"{number}\n")
    # 0' is read through the file still open, 1 and 2 are gone for good: no reader was there in time.
    assert await follower.look() == "0\n0'\n3\n4\n5\n6\n"
    await follower.end()


async def test_what_was_printed_before_the_end_is_not_missed(folder: ReplicaFolder) -> None:
    follower = Follower(folder)
    await follower.look()
    append(folder, "last words\n")
    assert await follower.end() == "last words\n"


async def test_a_log_cut_short_by_somebody_is_read_from_its_new_beginning(folder: ReplicaFolder) -> None:
    append(folder, "long line\n")
    follower = Follower(folder)
    await follower.look()
    folder.log.write_text("")
    await follower.look()
    append(folder, "new\n")
    await follower.look()
    assert (await follower.end()).endswith("new\n")


def test_the_tail_of_a_failure_has_whole_lines_and_a_limit(folder: ReplicaFolder) -> None:
    append(folder, "".join(f"line {n}\n" for n in range(2000)))
    tail = logs.tail_text(folder)
    assert len(tail) <= logs.TAIL_BYTES
    assert tail.startswith("line ")
    assert tail.endswith("line 1999\n")
    assert len(tail) > logs.TAIL_BYTES - 20
    folder.log.write_text("é" * 5000)
    assert len(logs.tail_text(folder).encode()) <= logs.TAIL_BYTES + 4


def test_the_tail_goes_back_over_a_rotation_but_not_before_its_mark(folder: ReplicaFolder) -> None:
    append(folder, "before\n")
    inode, offset = logs.mark(folder)
    append(folder, "one\n")
    rotate(folder)
    append(folder, "two\n")
    assert logs.tail_text(folder, inode, offset) == "one\ntwo\n"
    assert logs.tail_text(folder) == "before\none\ntwo\n"


def test_the_last_line_is_the_last_with_something_on_it() -> None:
    assert logs.last_line("a\nb  \n\n \n") == "b"
    assert logs.last_line("\n") == ""
