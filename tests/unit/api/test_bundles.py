"""Bundle uploads: streamed, bounded, harmless to repeat."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from tests.unit.api.world import BUNDLE, make_world

CONTENT = b"files " * 50_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
GZIP = {"content-type": "application/gzip"}


async def in_parts(content: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def test_a_bundle_is_asked_for_uploaded_and_then_here() -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client() as client:
            target = f"/v1/bundles/{DIGEST}"
            assert (await client.head(target)).status_code == 404
            put = await client.put(target, content=in_parts(CONTENT), headers=GZIP)
            assert (put.status_code, put.json()) == (201, {"digest": DIGEST, "created": True})
            assert world.bundles.stored[DIGEST] == CONTENT
            assert (await client.head(target)).status_code == 200
            again = await client.put(target, content=CONTENT, headers=GZIP)
            assert (again.status_code, again.json()) == (200, {"digest": DIGEST, "created": False})

    asyncio.run(check())


@pytest.mark.parametrize("kind", ["application/gzip", "application/x-tar", "APPLICATION/OCTET-STREAM; x=y"])
def test_archive_types_are_taken(kind: str) -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client() as client:
            answer = await client.put(f"/v1/bundles/{DIGEST}", content=CONTENT, headers={"content-type": kind})
        assert answer.status_code == 201

    asyncio.run(check())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/json"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/gzip", "content-encoding": "gzip"},
    ],
)
def test_other_types_are_refused_unread(headers: dict[str, str]) -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client() as client:
            answer = await client.put(f"/v1/bundles/{DIGEST}", content=CONTENT, headers=headers)
        assert answer.status_code == 415
        assert answer.json()["error"]["code"] == "unsupported_media_type"
        assert world.bundles.received == 0

    asyncio.run(check())


def test_what_is_announced_as_too_large_is_refused_before_it_is_stored() -> None:
    async def check() -> None:
        world = await make_world(max_bundle_bytes=len(CONTENT) - 1)
        async with world.client() as client:
            answer = await client.put(f"/v1/bundles/{DIGEST}", content=CONTENT, headers=GZIP)
        assert answer.status_code == 413
        assert answer.json()["error"]["details"] == {"limit": len(CONTENT) - 1}
        assert world.bundles.received == 0

    asyncio.run(check())


def test_what_turns_out_too_large_is_cut_off_at_the_limit() -> None:
    async def check() -> None:
        world = await make_world(max_bundle_bytes=100_000)
        async with world.client() as client:
            answer = await client.put(f"/v1/bundles/{DIGEST}", content=in_parts(CONTENT), headers=GZIP)
        assert answer.status_code == 413
        assert world.bundles.received <= 100_000
        assert DIGEST not in world.bundles.stored

    asyncio.run(check())


def test_a_bundle_of_exactly_the_limit_is_taken() -> None:
    async def check() -> None:
        world = await make_world(max_bundle_bytes=len(CONTENT))
        async with world.client() as client:
            assert (await client.put(f"/v1/bundles/{DIGEST}", content=CONTENT, headers=GZIP)).status_code == 201
            streamed = await client.put(f"/v1/bundles/{DIGEST}", content=in_parts(CONTENT), headers=GZIP)
            assert streamed.status_code == 200

    asyncio.run(check())


def test_content_of_another_digest_is_told() -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client() as client:
            answer = await client.put(f"/v1/bundles/{DIGEST}", content=b"something else", headers=GZIP)
            empty = await client.put(f"/v1/bundles/{DIGEST}", content=b"", headers=GZIP)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_bundle")
        assert empty.status_code == 400
        assert set(world.bundles.stored) >= {BUNDLE}
        assert DIGEST not in world.bundles.stored

    asyncio.run(check())
