"""What every bundle store does."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

import pytest

from headway.domain.bundles import MAX_FILES, BundleFile, digest
from headway.domain.errors import BundleNotFound, InvalidBundle, InvalidName, PayloadTooLarge
from headway.ports.bundle_store import BundleStore

MAX_BYTES = 1024 * 1024
"""The bound that stores under test are made with."""

FILES = {
    "model.py": b"class Model: ...\n",
    "artifacts/deep/weights.bin": bytes(range(256)) * 300,
    "run.sh": b"#!/bin/sh\n",
    "empty": b"",
    "ünï/" + "n" * 180 + ".txt": b"a long name",
}
EXECUTABLE = {"run.sh"}


def digest_of(files: Mapping[str, bytes]) -> str:
    return digest(
        BundleFile(path, len(content), hashlib.sha256(content).hexdigest(), path in EXECUTABLE)
        for path, content in files.items()
    )


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o755 if name in EXECUTABLE else 0o640
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar(members: Iterable[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz", form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archive_of(files: Mapping[str, bytes], mode: str = "w:gz", form: int = tarfile.PAX_FORMAT) -> bytes:
    return tar((member(path, content) for path, content in files.items()), mode, form)


async def chunks(data: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(0)


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _pax_bomb() -> bytes:
    """A header that claims, and compressed has, more than any memory should be given."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 64 * 1024 * 1024
    return gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + bytes(info.size), 1)


PAX_BOMB = _pax_bomb()


LINK_OR_DEVICE = "neither a file nor a folder"
REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing at all": (b"", "cannot be read"),
    "no tar": (b"hello " * 1000, "cannot be read"),
    "no tar in gzip": (gzip.compress(b"hello " * 1000), "cannot be read"),
    "cut off": (archive_of(FILES)[:-200], "cannot be read|ends in the middle"),
    "cut off, plain": (archive_of(FILES, "w")[:3000], "cannot be read|ends in the middle"),
    "bzip2": (archive_of(FILES, "w:bz2"), "cannot be read"),
    "no files": (tar([member("d", type=tarfile.DIRTYPE)]), "holds no file"),
    "an absolute path": (tar([member("/etc/x")]), "unsafe path"),
    "a path that climbs": (tar([member("a/../../x")]), "unsafe path"),
    "a path with a dot": (tar([member("./model.py")]), "unsafe path"),
    "a backslash": (tar([member("a\\b")]), "unsafe path"),
    "a folder that climbs": (tar([member("..", type=tarfile.DIRTYPE), member("model.py")]), "unsafe path"),
    "a symbolic link": (
        tar([member("l", type=tarfile.SYMTYPE, linkname="/etc/passwd")]),
        "neither a file nor a folder",
    ),
    "a hard link": (
        tar([member("model.py"), member("l", type=tarfile.LNKTYPE, linkname="model.py")]),
        "neither a file nor a folder",
    ),
    "a link and a file through it": (
        tar([member("d", type=tarfile.SYMTYPE, linkname="/tmp"), member("d/x")]),
        "neither a file nor a folder",
    ),
    "a device": (tar([member("dev", type=tarfile.CHRTYPE, devmajor=1, devminor=3)]), LINK_OR_DEVICE),
    "a pipe": (tar([member("pipe", type=tarfile.FIFOTYPE)]), LINK_OR_DEVICE),
    "a file twice": (tar([member("model.py", b"1"), member("model.py", b"2")]), "twice"),
    "a file that is a folder": (tar([member("a", b"1"), member("a/b", b"2")]), "both a file and a folder"),
    "a folder that is a file": (tar([member("a/b", b"1"), member("a", b"2")]), "twice|both a file and a folder"),
    "a path that is too long": (tar([member("/".join(["d" * 100] * 11))]), "unsafe path"),
    "too many files": (tar(member(f"f{n}") for n in range(MAX_FILES + 1)), "files, more than|more than 20000 files"),
}
TOO_LARGE: dict[str, bytes] = {
    "one file": archive_of({"big": bytes(MAX_BYTES + 1)}),
    "many files": archive_of({f"f{n}": bytes(MAX_BYTES // 8) for n in range(9)}),
    "a bomb": gzip.compress(archive_of({"bomb": bytes(64 * MAX_BYTES)}, "w")),
}


@pytest.mark.anyio
class BundleStoreContract:
    """Subclasses give a fixture ``store``, bounded to ``MAX_BYTES``."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_an_empty_store(self, store: BundleStore) -> None:
        absent = digest_of(FILES)
        assert await store.list() == []
        assert await store.has(absent) is False
        with pytest.raises(BundleNotFound):
            await store.path(absent)
        await store.delete(absent)

    @pytest.mark.parametrize("mode", ["w", "w:gz"])
    @pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
    async def test_what_is_put_is_there(self, store: BundleStore, mode: str, form: int) -> None:
        digest = digest_of(FILES)
        await store.put(digest, chunks(archive_of(FILES, mode, form)))
        assert await store.has(digest) is True
        assert await store.list() == [digest]
        folder = await store.path(digest)
        assert folder.is_absolute()
        assert content_of(folder) == FILES

    async def test_a_bundle_is_read_only_and_keeps_what_is_executable(self, store: BundleStore) -> None:
        await store.put(digest_of(FILES), chunks(archive_of(FILES)))
        folder = await store.path(digest_of(FILES))
        for path in [folder, *folder.rglob("*")]:
            wanted = 0o555 if path.is_dir() or path.name in EXECUTABLE else 0o444
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path

    async def test_order_owner_times_and_folders_do_not_count(self, store: BundleStore) -> None:
        members = [
            member("artifacts", type=tarfile.DIRTYPE, mode=0o777),
            *(member(p, FILES[p], mtime=n, uid=7, uname="me") for n, p in enumerate(reversed(FILES))),
            member("empty-folder", type=tarfile.DIRTYPE),
        ]
        for info, _ in members:
            if info.name in EXECUTABLE:
                info.mode = 0o700
        await store.put(digest_of(FILES), chunks(tar(members)))
        assert content_of(await store.path(digest_of(FILES))) == FILES
        assert store.place(digest_of(FILES)) == await store.path(digest_of(FILES))

    async def test_chunks_of_any_size(self, store: BundleStore) -> None:
        small = {"a": b"x" * 100}
        await store.put(digest_of(small), chunks(archive_of(small), 1))
        assert await store.has(digest_of(small))

    async def test_putting_it_again_is_harmless(self, store: BundleStore) -> None:
        for _ in range(2):
            await store.put(digest_of(FILES), chunks(archive_of(FILES)))
        assert await store.list() == [digest_of(FILES)]

    async def test_putting_it_several_times_at_once(self, store: BundleStore) -> None:
        digest = digest_of(FILES)
        await asyncio.gather(*(store.put(digest, chunks(archive_of(FILES), 500 + n)) for n in range(5)))
        assert await store.list() == [digest]
        assert content_of(await store.path(digest)) == FILES

    @pytest.mark.parametrize("name", REFUSED)
    async def test_a_bad_archive_is_refused_and_leaves_nothing(self, store: BundleStore, name: str) -> None:
        archive, complaint = REFUSED[name]
        with pytest.raises(InvalidBundle, match=complaint):
            await store.put(digest_of(FILES), chunks(archive, 100_000))
        assert await store.list() == []

    @pytest.mark.parametrize("name", TOO_LARGE)
    async def test_too_much_is_refused_and_leaves_nothing(self, store: BundleStore, name: str) -> None:
        with pytest.raises(PayloadTooLarge):
            await store.put(digest_of(FILES), chunks(TOO_LARGE[name], 100_000))
        assert await store.list() == []

    async def test_a_header_that_is_a_bomb(self, store: BundleStore) -> None:
        with pytest.raises((InvalidBundle, PayloadTooLarge)):
            await store.put(digest_of(FILES), chunks(PAX_BOMB, 100_000))

    async def test_other_content_than_the_digest_says(self, store: BundleStore) -> None:
        other = {**FILES, "model.py": b"changed"}
        with pytest.raises(InvalidBundle, match=digest_of(other)):
            await store.put(digest_of(FILES), chunks(archive_of(other)))
        assert await store.has(digest_of(FILES)) is False
        assert await store.has(digest_of(other)) is False
        await store.put(digest_of(FILES), chunks(archive_of(FILES)))
        assert await store.has(digest_of(FILES)) is True

    async def test_a_sender_that_fails_leaves_nothing(self, store: BundleStore) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield archive_of(FILES)[:500]
            raise ConnectionResetError("the client went away")

        with pytest.raises(ConnectionResetError):
            await store.put(digest_of(FILES), broken())
        assert await store.list() == []

    async def test_a_cancelled_put_leaves_nothing(self, store: BundleStore) -> None:
        sent = asyncio.Event()

        async def stuck() -> AsyncIterator[bytes]:
            yield archive_of(FILES)[:500]
            sent.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(store.put(digest_of(FILES), stuck()))
        await sent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await store.list() == []
        await store.put(digest_of(FILES), chunks(archive_of(FILES)))
        assert await store.list() == [digest_of(FILES)]

    @pytest.mark.parametrize("name", ["", "../x", "A" * 64, "0" * 63, "0" * 64 + "/.."])
    async def test_only_digests_are_names(self, store: BundleStore, name: str) -> None:
        with pytest.raises(InvalidName):
            await store.has(name)
        with pytest.raises(InvalidName):
            await store.path(name)
        with pytest.raises(InvalidName):
            await store.put(name, chunks(archive_of(FILES)))
        with pytest.raises(InvalidName):
            await store.delete(name)

    async def test_deleting_one_of_two(self, store: BundleStore) -> None:
        other = {"model.py": b"other"}
        for files in (FILES, other):
            await store.put(digest_of(files), chunks(archive_of(files)))
        assert await store.list() == sorted([digest_of(FILES), digest_of(other)])
        folder = await store.path(digest_of(FILES))
        await store.delete(digest_of(FILES))
        assert not os.path.lexists(folder)
        assert await store.list() == [digest_of(other)]
        assert await store.has(digest_of(FILES)) is False
        await store.delete(digest_of(FILES))
        await store.put(digest_of(FILES), chunks(archive_of(FILES)))
        assert content_of(await store.path(digest_of(FILES))) == FILES
