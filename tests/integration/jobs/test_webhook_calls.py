"""Webhook calls over real sockets: what arrives, and what cannot be reached."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headway.adapters.webhooks import HttpWebhookCaller
from tests.services.canned_http import CannedHttp
from tests.waiting import PortPicker

pytestmark = pytest.mark.anyio
HEADERS = {"content-type": "application/json", "webhook-id": "d1"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Names:
    """Names as a test resolves them; how often each was asked for."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = answers
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        answers = self.answers[host.replace(".", "_")]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
async def receiver(free_port: PortPicker) -> AsyncIterator[CannedHttp]:
    async with CannedHttp(free_port()) as receiver:
        receiver.say({}, 200)
        yield receiver


async def test_it_arrives_under_the_name_that_was_called(receiver: CannedHttp) -> None:
    caller = HttpWebhookCaller(resolve=Names(hook_test=[["127.0.0.1"]]))
    answer = await caller.post(f"http://hook.test:{receiver.port}/a?b=1", HEADERS, b"{}", allow_private=True)
    assert answer.arrived
    (request,) = receiver.requests
    head = request.lower()
    assert head.startswith("post /a?b=1 http/1.1\r\n")
    assert f"host: hook.test:{receiver.port}\r\n" in head
    assert "webhook-id: d1" in head
    await caller.close()
    await caller.close()


async def test_an_address_of_six_stands_in_brackets_in_the_host_header(receiver: CannedHttp) -> None:
    caller = HttpWebhookCaller(resolve=Names(**{"::1": [["127.0.0.1"]]}))
    assert (await caller.post(f"http://[::1]:{receiver.port}/", HEADERS, b"{}", allow_private=True)).arrived
    assert f"host: [::1]:{receiver.port}\r\n" in receiver.requests[0].lower()
    await caller.close()


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::1"], []])
async def test_a_name_that_leads_inside_is_not_called(receiver: CannedHttp, addresses: list[str]) -> None:
    caller = HttpWebhookCaller(resolve=Names(hook_test=[addresses]))
    answer = await caller.post(f"http://hook.test:{receiver.port}/", HEADERS, b"{}")
    assert answer.status is None
    assert "public" in answer.problem or "no address" in answer.problem
    assert receiver.requests == []
    literal = await HttpWebhookCaller().post(f"http://127.0.0.1:{receiver.port}/", HEADERS, b"{}")
    assert "not a public address" in literal.problem


async def test_a_name_is_looked_up_once_for_a_call(receiver: CannedHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first answer is judged and called; a second one, with which the judge could be deceived, is never asked for.
    monkeypatch.setattr("headway.adapters.webhooks.caller.is_public", lambda address: address == "127.0.0.1")
    names = Names(hook_test=[["127.0.0.1"], ["10.0.0.1"]])
    answer = await HttpWebhookCaller(resolve=names).post(f"http://hook.test:{receiver.port}/", HEADERS, b"{}")
    assert (answer.status, names.asked) == (200, 1)


async def test_redirects_are_not_followed(receiver: CannedHttp) -> None:
    receiver.say({}, 302, head="location: http://169.254.169.254/\r\n")
    answer = await HttpWebhookCaller().post(f"http://127.0.0.1:{receiver.port}/", HEADERS, b"{}", allow_private=True)
    assert (answer.status, answer.arrived, len(receiver.requests)) == (302, False, 1)


async def test_what_does_not_answer_is_told(receiver: CannedHttp, free_port: PortPicker) -> None:
    caller = HttpWebhookCaller(timeout_s=0.2)
    nobody = await caller.post(f"http://127.0.0.1:{free_port()}/", HEADERS, b"{}", allow_private=True)
    assert nobody.status is None
    assert nobody.problem
    receiver.say_bytes(b"what?\r\n\r\n")
    assert (await caller.post(f"http://127.0.0.1:{receiver.port}/", HEADERS, b"{}", allow_private=True)).status is None
    receiver.say_bytes(b"HTTP/1.1 ")
    late = await caller.post(f"http://127.0.0.1:{receiver.port}/", HEADERS, b"{}", allow_private=True)
    assert late.status is None
    await caller.close()


async def test_a_body_without_end_is_not_read(receiver: CannedHttp) -> None:
    receiver.say(b"x" * 100_000, 200, stall=True)
    answer = await HttpWebhookCaller(timeout_s=5).post(
        f"http://127.0.0.1:{receiver.port}/", HEADERS, b"{}", allow_private=True
    )
    assert answer.arrived
