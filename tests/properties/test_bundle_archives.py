"""Any files come through an archive unchanged; no archive, however broken, does anything but be refused."""

from __future__ import annotations

import asyncio
import hashlib
import random
import tarfile
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from headway.adapters.local.bundles import LocalBundleStore
from headway.domain.bundles import BundleFile, digest
from headway.domain.errors import InvalidInput
from tests.contracts.bundle_store_contract import archive_of, content_of

# Prefixed, so that no name is both a file and a folder.
part = st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
paths = st.tuples(st.lists(part.map("d".__add__), max_size=3), part.map("f".__add__)).map(
    lambda p: "/".join([*p[0], p[1]])
)
files = st.dictionaries(paths, st.binary(max_size=2000), min_size=1, max_size=5)


async def one(data: bytes) -> AsyncIterator[bytes]:
    yield data


@given(files, st.sampled_from(["w", "w:gz"]), st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_files_come_through_unchanged(contents: dict[str, bytes], mode: str, form: int) -> None:
    name = digest(BundleFile(p, len(c), hashlib.sha256(c).hexdigest()) for p, c in contents.items())

    async def put() -> None:
        with tempfile.TemporaryDirectory() as root:
            store = LocalBundleStore(Path(root))
            await store.put(name, one(archive_of(contents, mode, form)))
            assert content_of(await store.path(name)) == contents
            await store.delete(name)

    asyncio.run(put())


def broken(seed: int) -> bytes:
    """A good archive with some bytes changed and the checksums of its headers made right again."""
    chance = random.Random(seed)
    data = bytearray(archive_of({"model.py": b"x" * 1500, "d/e": b"z" * 700, "long" * 40: b""}, "w")[:6656])
    for _ in range(chance.choice([1, 2, 5, 40])):
        data[chance.randrange(len(data))] = chance.choice([0, 255, ord("0"), ord("7"), chance.randrange(256)])
    for start in range(0, len(data) - 511, 512):
        if chance.random() < 0.8:
            checksum = 256 + sum(data[start : start + 148]) + sum(data[start + 156 : start + 512])
            data[start + 148 : start + 156] = b"%06o\0 " % checksum
    return bytes(data)


@given(st.integers(0, 2**32).map(broken) | st.binary(max_size=3000))
@example(b"\x1f\x8b")
def test_a_broken_archive_is_refused_and_leaves_nothing(data: bytes) -> None:
    async def put() -> None:
        with tempfile.TemporaryDirectory() as root:
            try:
                await LocalBundleStore(Path(root), max_bytes=10_000).put("0" * 64, one(data))
            except InvalidInput:
                assert list(Path(root).iterdir()) == []
            else:
                raise AssertionError("an archive of another digest was taken")

    asyncio.run(put())
