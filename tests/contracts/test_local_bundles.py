"""Bundles as folders keep the contract, and what only folders can get wrong."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.adapters.local import unpack
from headway.adapters.local.bundles import LocalBundleStore
from headway.domain.errors import InvalidBundle, PayloadTooLarge, StorageFailed
from tests.contracts.bundle_store_contract import (
    FILES,
    MAX_BYTES,
    PAX_BOMB,
    REFUSED,
    TOO_LARGE,
    BundleStoreContract,
    archive_of,
    chunks,
    content_of,
    digest_of,
    member,
    tar,
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalBundleStore]:
    store = LocalBundleStore(tmp_path / "home" / "bundles", max_bytes=MAX_BYTES)
    await store.open()
    yield store
    for digest in await store.list():
        await store.delete(digest)  # so that pytest can remove the folder


def left_in(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "home" / "bundles"))


class TestLocalBundleStore(BundleStoreContract):
    @pytest.fixture
    def store(self, store: LocalBundleStore) -> LocalBundleStore:
        return store

    async def test_no_failure_leaves_a_file_behind(self, store: LocalBundleStore, tmp_path: Path) -> None:
        for name, (archive, _) in REFUSED.items():
            if name == "too many files":  # takes seconds, and fails where the others do
                continue
            with pytest.raises(InvalidBundle):
                await store.put(digest_of(FILES), chunks(archive, 1_000_000))
        assert left_in(tmp_path) == []
        assert sorted(os.listdir(tmp_path)) == ["home"]
        assert os.listdir(tmp_path / "home") == ["bundles"]
        assert not os.path.lexists("/etc/x")

    async def test_leftovers_of_a_crash_are_removed_and_work_in_progress_is_not(
        self, store: LocalBundleStore, tmp_path: Path
    ) -> None:
        await store.put(digest_of(FILES), chunks(archive_of(FILES)))
        root = tmp_path / "home" / "bundles"
        for name in (".put-dead", ".delete-dead", ".put-busy"):
            (root / name / "sub").mkdir(parents=True)
            (root / name / "sub" / "file").write_text("x")
            (root / name / "sub").chmod(0o555)
        busy = os.open(root / ".put-busy", os.O_RDONLY)
        try:
            fcntl.flock(busy, fcntl.LOCK_EX)
            await LocalBundleStore(root).open()
            assert left_in(tmp_path) == [".put-busy", digest_of(FILES)]
        finally:
            os.close(busy)
        await store.open()
        assert left_in(tmp_path) == [digest_of(FILES)]

    @pytest.mark.parametrize("bomb", [PAX_BOMB, TOO_LARGE["a bomb"]], ids=["header", "content"])
    async def test_a_bomb_gets_no_memory(self, store: LocalBundleStore, bomb: bytes) -> None:
        tracemalloc.start()
        try:
            with pytest.raises((InvalidBundle, PayloadTooLarge)):
                await store.put(digest_of(FILES), chunks(bomb, 100_000))
            assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024  # both are 64 MiB when unpacked
        finally:
            tracemalloc.stop()

    async def test_a_bundle_outlives_the_store(self, store: LocalBundleStore, tmp_path: Path) -> None:
        await store.put(digest_of(FILES), chunks(archive_of(FILES)))
        again = LocalBundleStore(tmp_path / "home" / "bundles")
        await again.open()
        assert content_of(await again.path(digest_of(FILES))) == FILES

    async def test_a_store_that_was_not_opened_has_nothing_and_can_be_put_to(self, tmp_path: Path) -> None:
        fresh = LocalBundleStore(tmp_path / "new" / "bundles")
        assert await fresh.list() == []
        assert await fresh.has(digest_of(FILES)) is False
        await fresh.put(digest_of(FILES), chunks(archive_of(FILES)))
        await fresh.delete(digest_of(FILES))
        assert await fresh.list() == []

    async def test_too_deep_and_too_long_names(self, store: LocalBundleStore) -> None:
        for name in ("/".join(["d"] * 66), "n" * 256):
            with pytest.raises(InvalidBundle):
                await store.put(digest_of(FILES), chunks(tar([member(name)])))

    async def test_a_root_that_cannot_be_made_is_a_storage_failure(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        broken = LocalBundleStore(tmp_path / "file" / "bundles")
        with pytest.raises(StorageFailed):
            await broken.open()
        with pytest.raises(StorageFailed):
            await broken.put(digest_of(FILES), chunks(archive_of(FILES)))

    async def test_cancelling_stops_the_thread_that_unpacks(
        self, store: LocalBundleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loop, begun, ended = asyncio.get_running_loop(), asyncio.Event(), []
        original = unpack.unpack

        def slow(archive: object, target: Path, limit: int, cancelled: threading.Event) -> str:
            loop.call_soon_threadsafe(begun.set)
            assert cancelled.wait(30), "nobody told the thread"
            try:
                return original(archive, target, limit, cancelled)  # type: ignore[arg-type]
            except unpack.Cancelled:
                ended.append("cancelled")
                raise

        monkeypatch.setattr("headway.adapters.local.bundles.unpack", slow)
        task = asyncio.create_task(store.put(digest_of(FILES), chunks(archive_of(FILES))))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["cancelled"]
        assert left_in(tmp_path) == []
