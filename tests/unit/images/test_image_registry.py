"""The registry's client against a registry that is faked at the wire."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from headway.adapters.oci import registry as registry_module
from headway.adapters.oci.credentials import Credentials, credentials_for
from headway.adapters.oci.registry import Registry
from headway.adapters.oci.store import BlobStore
from headway.domain.errors import (
    DigestMismatch,
    Forbidden,
    ImageNotFound,
    InvalidInput,
    RegistryFailed,
    Unauthenticated,
)
from headway.domain.images import Descriptor, digest_of

pytestmark = pytest.mark.anyio
BLOB = b"a layer" * 1000
LAYER = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", digest_of(BLOB), len(BLOB))
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "PAUSE_S", 0)


def registry(answer: Answer, credentials: Credentials | None = None) -> Registry:
    return Registry("r.example", credentials, transport=httpx.MockTransport(answer))


async def test_a_token_is_fetched_with_the_name_and_password_and_used_on() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.host}{request.url.path}")
        if request.url.host == "auth.example":
            assert request.headers["authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
            assert request.url.params["scope"] == "repository:acme/iris:pull"
            assert request.url.params["service"] == "r"
            return httpx.Response(200, json={"token": "T"})
        if request.headers.get("authorization") != "Bearer T":
            challenge = 'Bearer realm="https://auth.example/token",service="r",scope="whatever"'
            return httpx.Response(401, headers={"www-authenticate": challenge})
        return httpx.Response(200, content=b"{}", headers={"content-type": "application/json; charset=utf-8"})

    async with registry(answer, Credentials("me", "secret")) as client:
        assert await client.manifest("acme/iris", "v1") == ("application/json", b"{}")
        await client.manifest("acme/iris", "v2")
    assert asked == [
        "GET r.example/v2/acme/iris/manifests/v1",
        "GET auth.example/token",
        "GET r.example/v2/acme/iris/manifests/v1",
        "GET r.example/v2/acme/iris/manifests/v2",
    ]


@pytest.mark.parametrize("realm", ['Basic realm="x"', 'Bearer realm="https://auth.example/t"', "", "Negotiate"])
async def test_who_is_not_let_in_is_told_what_to_do(realm: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        headers = {"www-authenticate": realm}
        body = {"errors": [{"code": "UNAUTHORIZED", "message": "go away"}]}
        return httpx.Response(401, json=body, headers=headers)

    for known in (None, Credentials("me", "hunter2")):
        async with registry(answer, known) as client:
            with pytest.raises(Unauthenticated, match="go away") as refused:
                await client.manifest("acme/iris", "v1")
        assert refused.value.hint == "docker login r.example"
        assert "hunter2" not in str(refused.value)


async def test_what_is_not_allowed() -> None:
    async with registry(lambda request: httpx.Response(403)) as client:
        with pytest.raises(Forbidden):
            await client.has_blob("acme/iris", LAYER.digest)


async def test_no_such_image() -> None:
    async with registry(lambda request: httpx.Response(404)) as client:
        with pytest.raises(ImageNotFound, match="acme/iris"):
            await client.manifest("acme/iris", "v1")


async def test_a_manifest_that_is_not_what_was_asked_for_is_refused() -> None:
    async with registry(lambda request: httpx.Response(200, content=b"{}")) as client:
        with pytest.raises(DigestMismatch):
            await client.manifest("acme/iris", f"sha256:{'0' * 64}")
    lies = {"docker-content-digest": f"sha256:{'0' * 64}"}
    async with registry(lambda request: httpx.Response(200, content=b"{}", headers=lies)) as client:
        with pytest.raises(DigestMismatch):
            await client.manifest("acme/iris", "v1")


@pytest.mark.parametrize("content", [BLOB[:-1], BLOB + b"x", b"\0" * len(BLOB)])
async def test_a_damaged_blob_is_never_kept(tmp_path: Path, content: bytes) -> None:
    store, counts = BlobStore(tmp_path), list[int]()
    async with registry(lambda request: httpx.Response(200, stream=httpx.ByteStream(content))) as client:
        with pytest.raises(DigestMismatch):
            await client.fetch("acme/iris", LAYER, store, counts.append)
    assert not store.has(LAYER.digest)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert sum(counts) == 0


async def test_what_stumbles_is_tried_again(tmp_path: Path) -> None:
    answers: Iterator[httpx.Response | Exception] = iter(
        [httpx.Response(503), httpx.ConnectError("reset"), httpx.Response(200, stream=httpx.ByteStream(BLOB[:9]))]
    )
    store, counts = BlobStore(tmp_path), list[int]()

    def answer(request: httpx.Request) -> httpx.Response:
        found = next(answers, httpx.Response(200, stream=httpx.ByteStream(BLOB)))
        if isinstance(found, Exception):
            raise found
        return found

    async with registry(answer) as client:
        await client.fetch("acme/iris", LAYER, store, counts.append)
        await client.fetch("acme/iris", LAYER, store, counts.append)
    assert store.read(LAYER.digest) == BLOB
    assert sum(counts) == 2 * len(BLOB)


async def test_a_fetch_that_breaks_off_is_begun_anew(tmp_path: Path) -> None:
    store, counts, tries = BlobStore(tmp_path), list[int](), list[int]()

    async def half() -> AsyncIterator[bytes]:
        yield BLOB[:100]
        if len(tries) < 3:
            raise httpx.ReadError("reset")
        yield BLOB[100:]

    def answer(request: httpx.Request) -> httpx.Response:
        tries.append(1)
        return httpx.Response(200, content=half())

    async with registry(answer) as client:
        await client.fetch("acme/iris", LAYER, store, counts.append)
    assert store.read(LAYER.digest) == BLOB
    assert sum(counts) == len(BLOB)
    tries.clear()
    async with registry(lambda request: httpx.Response(200, content=half())) as client:
        with pytest.raises(RegistryFailed, match="broke off"):
            await client.fetch("acme/iris", LAYER, BlobStore(tmp_path / "other"), counts.append)


async def test_what_is_down_is_said_to_be(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route")

    async with registry(answer) as client:
        with pytest.raises(RegistryFailed, match=r"r\.example cannot be reached: no route"):
            await client.manifest("acme/iris", "v1")


async def test_an_upload_goes_where_the_registry_says_and_begins_anew_when_it_breaks(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.put(LAYER.digest, BLOB)
    got: list[bytes] = []
    counts: list[int] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(202, headers={"location": "/v2/uploads/7?state=abc"})
        assert request.url.path == "/v2/uploads/7"
        assert dict(request.url.params) == {"state": "abc", "digest": LAYER.digest}
        got.append(await request.aread())
        return httpx.Response(201) if len(got) > 1 else httpx.Response(502)

    client = Registry("r.example", transport=httpx.MockTransport(answer))
    async with client:
        await client.upload("acme/iris", LAYER, store.path(LAYER.digest), counts.append)
    assert got == [BLOB, BLOB]
    assert sum(counts) == len(BLOB)


async def test_a_mount_that_the_registry_does_not_do_is_no_mount() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        return (
            httpx.Response(202, headers={"location": "/v2/uploads/7"})
            if request.method == "POST"
            else httpx.Response(204)
        )

    async with registry(answer) as client:
        assert not await client.mount("acme/iris", LAYER.digest, "acme/base")
    assert asked == ["POST", "DELETE"]


async def test_an_interrupted_fetch_leaves_nothing(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with Registry("r.example", transport=httpx.MockTransport(answer)) as client:
        task = asyncio.create_task(client.fetch("acme/iris", LAYER, BlobStore(tmp_path), lambda _: None))
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def auth(text: str) -> dict[str, object]:
    return {"auths": {"r.example": {"auth": base64.b64encode(text.encode()).decode()}}}


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (auth("me:se:cret"), Credentials("me", "se:cret")),
        ({"auths": {"https://r.example": {"identitytoken": "T"}}}, Credentials(identity_token="T")),
        ({"auths": {"r.example": {"username": "me", "password": "p"}}}, Credentials("me", "p")),
        ({"auths": {"other.example": {"auth": "eDp5"}}}, None),
        ({}, None),
    ],
)
def test_what_docker_login_has_left(tmp_path: Path, config: dict[str, object], found: Credentials | None) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(json.dumps(config))
    assert credentials_for("r.example", {}, tmp_path) == found
    assert credentials_for("r.example", {"DOCKER_CONFIG": str(tmp_path / "none")}, tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"auths": {"r.example": {"auth": "!"}}})])
def test_a_docker_config_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidInput) as refused:
        credentials_for("r.example", {"DOCKER_CONFIG": str(tmp_path)}, tmp_path)
    assert refused.value.where == str(tmp_path / "config.json")


def test_a_helper_is_asked(tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text('#!/bin/sh\nread name\n[ "$name" = r.example ] && echo \'{"Username": "me", "Secret": "p"}\'\n')
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "test"}))
    env = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert credentials_for("r.example", env, tmp_path) in (Credentials("me", "p"), None)
