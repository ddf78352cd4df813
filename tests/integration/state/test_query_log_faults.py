"""What may go wrong while the query log is compacted: no crash, no wrong number, and what is lost is counted.

Two compactions at once: ``test_query_log_compaction.py`` and ``test_query_log_object_store.py``.
"""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.adapters.querylog import part_files
from headway.adapters.querylog.gateway_mark import LOG_NAME, current_mark
from headway.adapters.querylog.housekeeping import REPLACED_AGE_NS
from headway.adapters.querylog.losses import losses_of
from headway.adapters.querylog.manifest import HOUR_NS, merged_name
from headway.domain.errors import StorageFailed
from headway.domain.query_log import Losses, Retention
from headway.domain.query_segments import SUFFIX
from tests.integration.state.query_log_home import (
    HOUR0,
    LATER,
    MINUTE,
    MODEL,
    SECOND,
    START,
    Home,
    closed_block,
    expected,
    head_block,
    rows_block,
    run,
    spread,
)

SOON = START + MINUTE


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def losses(home: Home) -> Losses:
    return losses_of(run(home.store.accounts(MODEL)).accounts)


def lines_left(home: Home) -> list[tuple[str, int]]:
    """The gateway's lines that are read from its log."""
    mark = current_mark(home.gateway)
    places, start = [], 0
    for text in (home.gateway / LOG_NAME).read_bytes().splitlines(keepends=True):
        if start >= mark.offset:
            places.append((mark.stream, start))
        start += len(text)
    return places


# -- a segment's tail ----------------------------------------------------------------------------------


def test_a_segment_cut_at_every_byte_of_its_tail(home: Home) -> None:
    """Everything before the damage is kept, the damage is counted, once."""
    whole = head_block("s", 0, 0, START) + rows_block([START], 0) + rows_block([START + 1, START + 2], 1)
    last = rows_block([START + 3], 3)
    tail = last + closed_block(4, START)
    everything, torn = [], 0
    for cut in range(len(tail) + 1):
        stream = f"iris-v1-{cut}.0"
        data = (whole + tail[:cut]).replace(head_block("s", 0, 0, START), head_block(stream, 0, 0, START))
        home.write(stream, 0, data)
        everything += expected(stream, 4 if cut >= len(last) else 3)
        torn += cut not in (0, len(last), len(tail))
    everything.sort()
    assert home.seen() == everything
    home.compact(SOON)
    assert not list(home.segments.glob(f"*/*{SUFFIX}"))
    assert home.parts() == everything
    assert losses(home) == Losses(torn=torn)
    home.compact(LATER)
    home.compact(LATER + REPLACED_AGE_NS)
    assert home.names() == [merged_name(1)]
    assert home.parts() == everything
    assert losses(home) == Losses(torn=torn)


def test_a_flipped_bit_in_each_block_costs_that_block(home: Home) -> None:
    blocks = [rows_block([START + place], place) for place in range(5)]
    everything = []
    for damaged in range(5):
        stream = f"iris-v1-{damaged}.0"
        flipped = bytearray(blocks[damaged])
        flipped[60] ^= 4
        kept = [*blocks[:damaged], bytes(flipped), *blocks[damaged + 1 :], closed_block(5, START)]
        home.write(stream, 0, head_block(stream, 0, 0, START) + b"".join(kept))
        everything += [(stream, seq) for seq in range(5) if seq != damaged]
    home.compact(SOON)
    assert home.parts() == everything
    assert losses(home) == Losses(torn=5, missing=5)


# -- the clock -----------------------------------------------------------------------------------------


def test_a_clock_set_back_by_an_hour(home: Home) -> None:
    """Each record is in the hour that its clock said; nothing is twice, nothing expires or is merged too early."""
    after, back = START + HOUR_NS + MINUTE, START + 2 * MINUTE
    home.segment("iris-v1-a.0", 0, [after, after + SECOND, back, back + SECOND])
    home.segment("iris-v1-b.0", 0, [after, back])
    home.segment("iris-v1-b.0", 1, [back + SECOND], first=2)
    everything = expected("iris-v1-a.0", 4) + expected("iris-v1-b.0", 3)
    keep = Retention(max_age_s=2 * 3600)
    for now_ns in (
        after + MINUTE,
        back + MINUTE,
        START - HOUR_NS,
        after + MINUTE,
        LATER,
        START,
        LATER + REPLACED_AGE_NS,
    ):
        home.compact(now_ns, keep)
        assert home.seen() == everything
    parts = run(home.store.parts(MODEL, START, START + HOUR_NS))
    assert sum(part.rows for part in parts) == 4
    assert losses(home) == Losses(clock_steps=2)


# -- a damaged part --------------------------------------------------------------------------------------


def test_any_flipped_byte_of_a_part_is_noticed(home: Home) -> None:
    for replica in "ab":
        home.segment(f"iris-v1-{replica}.0", 0, spread(20))
    home.compact(SOON)
    stored = min(home.store.place.files(MODEL), key=lambda stored: stored.name)
    path = home.store.place.local(stored)
    data = path.read_bytes()
    left = expected("iris-v1-b.0", 20)
    for place in [*range(0, len(data), 9), *range(len(data) - 60, len(data))]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(bytes(flipped))
        (part,) = run(home.store.parts(MODEL, START, LATER))
        assert part.path != path, f"byte {place}"
    assert home.parts() == left
    for size in (0, 3, 11, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        assert home.parts() == left
        assert run(home.store.accounts(MODEL)).damaged == 1
    path.write_bytes(data)
    assert len(home.parts()) == 40


def test_a_damaged_part_is_neither_merged_nor_forgotten(home: Home) -> None:
    for replica in "abc":
        home.segment(f"iris-v1-{replica}.0", 0, spread(5))
    home.compact(SOON)
    bad = next(path for path in home.records.glob("*/*/part-iris-v1-a*"))
    data = bytearray(bad.read_bytes())
    data[100] ^= 1
    bad.write_bytes(bytes(data))
    left = expected("iris-v1-b.0", 5) + expected("iris-v1-c.0", 5)
    for now_ns in (LATER, LATER + REPLACED_AGE_NS, LATER + HOUR_NS):
        home.compact(now_ns)
        assert home.parts() == left
    assert home.names() == [merged_name(1), bad.name]
    assert len(home.store.choices(MODEL)[HOUR0].damaged) == 1


def test_a_damaged_merged_file_falls_back_to_what_it_was_made_of(home: Home) -> None:
    for replica in "abc":
        home.segment(f"iris-v1-{replica}.0", 0, spread(5))
    home.compact(LATER)
    everything = home.parts()
    merged = next(home.records.glob("*/*/merged-*"))
    data = merged.read_bytes()
    for spoiled in (data[:-1], data[:50] + b"?" + data[51:]):
        merged.write_bytes(spoiled)
        assert home.parts() == everything
    home.compact(LATER + REPLACED_AGE_NS)
    home.compact(LATER + 2 * REPLACED_AGE_NS)
    assert home.names() == [merged_name(1), merged_name(2)]
    assert home.parts() == everything


# -- a full disk -----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte; where that is not allowed, none."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"may not mount: {mounted.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def leave(disk: Path, size: int) -> Path:
    """Fill ``disk`` but for about ``size`` bytes."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filler.write_bytes(b"x" * max(0, free - size))
    return filler


def test_a_disk_that_fills_up_at_any_moment(small_disk: Path) -> None:
    home = Home(small_disk / "home")
    everything = []
    for replica in "abc":
        home.segment(f"iris-v1-{replica}.0", 0, spread(40, 3 * MINUTE))
        everything += expected(f"iris-v1-{replica}.0", 40)
    home.line(1, START)
    everything = sorted([*everything, *lines_left(home)])
    failures = 0
    for size in itertools.count(0, 4096):
        leave(small_disk, size)
        try:
            home.compact(START + 4 * HOUR_NS)
            done = True
        except StorageFailed:
            done = False
            failures += 1
        assert sorted({*home.seen(), *lines_left(home)}) == everything
        assert not list(home.records.glob(".scratch/draft-*"))
        if done:
            break
    assert failures > 3
    assert home.parts() == everything


def test_expiry_makes_room_on_a_full_disk(small_disk: Path) -> None:
    home = Home(small_disk / "home")
    for hour in range(8):
        home.segment("iris-v1-a.0", hour, spread(60, SECOND, START + hour * HOUR_NS), first=60 * hour)
    home.compact(START)
    home.segment("iris-v1-b.0", 0, spread(40, SECOND, START + 8 * HOUR_NS))
    leave(small_disk, 0)
    with pytest.raises(StorageFailed):
        home.compact(START + 8 * HOUR_NS)
    home.compact(START + 9 * HOUR_NS, Retention(max_age_s=3600))
    assert home.parts() == expected("iris-v1-b.0", 40)


def test_a_disk_without_space_as_the_system_says_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """For those who may not mount."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    home.segment("iris-v1-a.0", 0, spread(5))
    with monkeypatch.context() as patch:
        patch.setattr(part_files, "sync", full)
        with pytest.raises(StorageFailed, match="No space left on device"):
            home.compact(SOON)
    assert home.seen() == expected("iris-v1-a.0", 5)
    assert not list(home.records.glob(".scratch/*"))
    home.compact(SOON)
    assert home.parts() == expected("iris-v1-a.0", 5)


# -- death -------------------------------------------------------------------------------------------------

KILLED_AT = """
import asyncio, os, signal, sys
from pathlib import Path
from headway.adapters.querylog.compaction import Compaction
from headway.adapters.querylog.store import PartStore
from headway.domain.query_log import Retention

root, now_ns = Path(sys.argv[1]), int(sys.argv[2])
CHANGES = {"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

def child(fatal):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event in CHANGES or (event == "open" and arguments[2] & WRITES):
            if str(root) in os.fspath(arguments[0]):
                seen += 1
                if seen == fatal:
                    os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    store = PartStore.directory(root / "records")
    asyncio.run(Compaction(root / "segments", root / "gateway", store).run(now_ns, Retention()))

for line in sys.stdin:
    pid = os.fork()
    if not pid:
        try:
            child(int(line))
            os._exit(0)
        except BaseException:
            os._exit(1)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_before_every_change_it_makes(home: Home) -> None:
    """SIGKILL before the first, second, … change of a file's name or content, until none is left to be killed at."""
    now_ns = START + 4 * HOUR_NS
    files: dict[Path, bytes] = {}
    for replica in "ab":
        ids = [f"{replica}{place}" for place in range(4)]
        path = home.segment(f"iris-v1-{replica}.0", 0, spread(4, 1000 * SECOND), request_ids=ids)
        files[path] = path.read_bytes()
    home.line(1, START)
    home.line(2, START, status=504, server="iris-v1-a", ends="sH", request_id="a0")
    for name in (LOG_NAME, "taken.json"):
        current_mark(home.gateway)
        files[home.gateway / name] = (home.gateway / name).read_bytes()
    claimed = {("iris-v1-a.0", 0)}
    everything = {*expected("iris-v1-a.0", 4), *expected("iris-v1-b.0", 4), *lines_left(home)} - claimed

    worker = subprocess.Popen(
        [sys.executable, "-c", KILLED_AT, str(home.root), str(now_ns)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deaths = 0
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        for fatal in itertools.count(1):
            for place in sorted(home.root.glob("records/**/*"), reverse=True):
                place.rmdir() if place.is_dir() else place.unlink()
            for path, data in files.items():
                path.write_bytes(data) if path.suffix != ".log" else None
            worker.stdin.write(f"{fatal}\n")
            worker.stdin.flush()
            status = int(worker.stdout.readline())
            assert status in (0, 9), f"at change {fatal}"
            found = [*home.seen(), *lines_left(home)]
            assert len(found) == len(set(found)), f"at change {fatal}"
            assert set(found) - claimed == everything, f"at change {fatal}"
            if status == 0:
                break
            deaths += 1
            home.compact(now_ns)
            assert home.parts() == sorted(everything), f"after change {fatal}"
    finally:
        worker.stdin.close()
        worker.wait()
        worker.stdout.close()
    assert deaths > 25
