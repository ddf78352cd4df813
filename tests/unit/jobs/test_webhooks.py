"""Webhooks: where they may lead, how they are signed, when they are tried again."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from headway.control.jobs.webhooks import WebhookCourier
from headway.domain.errors import InvalidInput
from headway.domain.webhooks import check_url, is_public, pause_s, secret_key, signed_headers
from headway.ports.webhook_caller import WebhookAnswer
from tests.unit.jobs.world import JobWorld, deployment

pytestmark = pytest.mark.anyio
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("192.0.2.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:7f00:1::", False),
        ("2001:0:7f00:1::1", False),
        ("localhost", False),
        ("", False),
    ],
)
async def test_only_addresses_out_in_the_internet_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ftp://example.com",
        "http://",
        "http://u@example.com",
        "http://a b/",
        "http://x:99999/",
        "http://[::1/",
        "https://é.example/",
        "http://example.com/" + "x" * 2000,
    ],
)
async def test_what_is_no_url_to_call_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_url(url, allow_private=True)


async def test_private_literals_are_refused_unless_allowed() -> None:
    for url in ("http://127.0.0.1/", "http://[::1]:80/x", "https://192.168.0.1/"):
        with pytest.raises(InvalidInput, match="public"):
            check_url(url, allow_private=False)
        check_url(url, allow_private=True)
    check_url("http://localhost:1/", allow_private=False)  # a name: looked at when it is called


async def test_the_signature_is_that_of_the_standard() -> None:
    headers = signed_headers(secret_key(SECRET), "msg_1", 1_700_000_000.9, b'{"a":1}')
    expected = hmac.new(b"k" * 32, b'msg_1.1700000000.{"a":1}', hashlib.sha256).digest()
    assert headers == {
        "webhook-id": "msg_1",
        "webhook-timestamp": "1700000000",
        "webhook-signature": f"v1,{base64.b64encode(expected).decode()}",
    }
    assert secret_key("plain") == b"plain"
    assert secret_key("whsec_?") == b"whsec_?"


async def test_pauses_double_up_to_an_hour() -> None:
    assert [pause_s(n, 0.5) for n in (1, 2, 3)] == [5, 10, 20]
    assert pause_s(1000, 0.5) == 3600
    assert pause_s(1, 0.0) < 5 < pause_s(1, 1.0)


class Receiver:
    """A caller that gets nowhere but to the test."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Mapping[str, str], Any]] = []
        self.answers: list[WebhookAnswer] = []

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, allow_private: bool = False
    ) -> WebhookAnswer:
        self.got.append((url, headers, json.loads(body)))
        return self.answers.pop(0) if self.answers else WebhookAnswer(204)

    async def close(self) -> None: ...


class World:
    def __init__(self, jobs: JobWorld) -> None:
        from headway.api.jobs.views import encode, job_view

        self.jobs, self.receiver, self.env = jobs, Receiver(), {"HOOK": "plain"}
        self.courier = WebhookCourier(
            jobs.jobs,
            self.receiver,
            jobs.policies,
            jobs.clock,
            secret=SECRET,
            env=self.env,
            render=lambda job: encode(job_view(job, jobs.clock.now())),
            chance=lambda: 0.5,
        )

    async def job(self, url: str = "https://example.com/hook") -> str:
        answer = await self.jobs.submit(path=f"/models/iris/jobs?webhook={url}")
        assert answer.status_code == 202, answer.text
        (work,) = await self.jobs.claim()
        assert await self.jobs.finish(work)
        return work.job_id

    async def deploy(self, **webhooks: Any) -> None:
        await self.jobs.deploy(deployment(jobs={"webhooks": webhooks}))
        await self.jobs.clock.elapse(1.1)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with JobWorld() as jobs:
        world = World(jobs)
        yield world
        await world.courier.stop()


async def test_the_end_of_a_job_is_told_once_and_signed(world: World) -> None:
    job_id = await world.job()
    await world.courier.start()
    await world.courier.start()
    await world.jobs.clock.elapse(10)
    ((url, headers, body),) = world.receiver.got
    assert (url, body["id"], body["state"]) == ("https://example.com/hook", job_id, "succeeded")
    assert headers["content-type"] == "application/json"
    assert headers["webhook-signature"].startswith("v1,")


async def test_what_does_not_arrive_is_tried_again_under_the_same_id(world: World) -> None:
    world.receiver.answers = [WebhookAnswer(None, "refused"), WebhookAnswer(500), WebhookAnswer(302)]
    await world.job()
    await world.courier.start()
    await world.jobs.clock.elapse(60)
    assert len(world.receiver.got) == 4
    assert len({headers["webhook-id"] for _, headers, _ in world.receiver.got}) == 1


async def test_after_the_last_try_it_is_given_up(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.deploy(maxTries=2)
    world.receiver.answers = [WebhookAnswer(500)] * 10
    await world.job()
    await world.courier.start()
    await world.jobs.clock.elapse(30)
    assert len(world.receiver.got) == 2
    assert "given up after 2 tries: answered 500" in caplog.text


async def test_a_receiver_that_is_gone_is_not_asked_again(world: World) -> None:
    world.receiver.answers = [WebhookAnswer(410)]
    await world.job()
    await world.courier.start()
    await world.jobs.clock.elapse(30)
    assert len(world.receiver.got) == 1


async def test_a_model_may_have_a_secret_of_its_own(world: World) -> None:
    await world.deploy(secretFromEnv="HOOK")
    await world.job()
    await world.courier.deliver()
    ((_, headers, _),) = world.receiver.got
    assert headers["webhook-signature"]
    del world.env["HOOK"]
    await world.job()
    await world.courier.deliver()
    assert len(world.receiver.got) == 1, "unsigned is not sent"


async def test_what_is_allowed_no_more_is_not_called(world: World) -> None:
    await world.deploy(allowPrivate=True)
    await world.job("http://127.0.0.1:9/")
    await world.deploy(allowPrivate=False)
    await world.courier.deliver()
    assert world.receiver.got == []
