"""Requests and answers one by one: errors of the tree, predictions, logs, events, and the real application."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from headway.client import Client
from headway.client.connection import CONTROL, Connection
from headway.client.discovery import Place
from headway.client.wire import error_of, events_of, json_of, lines_of
from headway.domain.errors import (
    Conflict,
    ControlUnreachable,
    DeadlineExceeded,
    Forbidden,
    GatewayFailed,
    HeadwayError,
    InvalidInput,
    InvalidName,
    InvalidTraffic,
    ModelNotFound,
    NotReady,
    Overloaded,
    TokenNotFound,
    Unauthenticated,
    tree,
)
from headway.domain.lifecycle import ReplicaPhase
from tests.unit.api.world import ADMIN, World, make_world
from tests.unit.client.bridge import INFO, Bridge
from tests.unit.client.control import GATEWAY, URL, PretendedControl, model_folder, refusal

OURS = [kind for kind in tree() if kind.__module__ == HeadwayError.__module__]


def client_of(handler: Any, **options: Any) -> Client:
    return Client(URL, "hw_secret", gateway_url=GATEWAY, transport=httpx.MockTransport(handler), **options)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.code)
def test_every_error_comes_back_as_its_class_with_all_it_says(kind: type[HeadwayError]) -> None:
    sent = kind("it is so", where="spec.x", hint="do this", details={"a": [1]})
    with (
        client_of(lambda request: httpx.Response(kind.status, json=sent.to_dict())) as client,
        pytest.raises(HeadwayError) as raised,
    ):
        client.get("iris")

    assert type(raised.value) is kind
    assert raised.value.to_dict() == sent.to_dict()


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (401, b"", Unauthenticated),
        (403, b"<html>", Forbidden),
        (503, b'{"error": "down"}', NotReady),
        (504, b"[" * 100_000, DeadlineExceeded),
        (502, b'{"error": {"message": "x"}}', HeadwayError),
        (429, b'{"error": {"code": "of_a_later_release", "message": "x"}}', Overloaded),
    ],
)
def test_an_answer_in_another_form_is_told_by_its_status(status: int, content: bytes, kind: type[HeadwayError]) -> None:
    assert type(error_of(status, content, CONTROL)) is kind


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"name": "iris"}', b"\xff", b"[" * 100_000])
def test_an_answer_that_cannot_be_understood_is_an_error_of_the_tree(content: bytes) -> None:
    with client_of(lambda request: httpx.Response(200, content=content)) as client, pytest.raises(HeadwayError):
        client.get("iris")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (httpx.ConnectError("refused"), ControlUnreachable),
        (httpx.ConnectTimeout("late"), ControlUnreachable),
        (httpx.RemoteProtocolError("cut off"), ControlUnreachable),
        (httpx.ReadTimeout("silent"), DeadlineExceeded),
        (httpx.DecodingError("garbled"), HeadwayError),
    ],
)
def test_a_fault_of_the_connection_is_an_error_of_the_tree(fault: Exception, kind: type[HeadwayError]) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise fault

    with client_of(broken) as client, pytest.raises(HeadwayError) as raised:
        client.info()

    assert type(raised.value) is kind


def test_half_a_surrogate_pair_in_an_answer_becomes_a_replacement_character() -> None:
    assert json_of(b'{"\\uD800": ["a\\udc00b", 1]}', CONTROL) == {"\ufffd": ["a\ufffdb", 1]}
    assert json_of(b'"\\ud83d\\ude00"', CONTROL) == "😀"


def test_lines_end_where_lines_end() -> None:
    chunks = [b"one\r\ntw", b"o\n\nform\x0cfeed \xe2", b"\x80\xa8 here\n", b"\xff last"]
    assert list(lines_of(chunks)) == ["one", "two", "", "form\x0cfeed \u2028 here", "\ufffd last"]


def test_a_line_without_end_is_cut_rather_than_kept() -> None:
    lines = lines_of(b"x" * 1_000_000 for _ in range(12))
    assert [len(next(lines)), len(next(lines))] == [5_000_000, 5_000_000]


def test_server_sent_events_are_told_from_comments() -> None:
    stream = [b': hello\n\nid: 4\nevent: x.v1\ndata: {"cursor": 4, "at": 1,\ndata:"type": "x.v1"}\n\n: on\n\n']
    first, event, last = events_of(stream, CONTROL)
    assert first is None
    assert last is None
    assert event is not None
    assert (event.cursor, event.type, event.model) == (4, "x.v1", None)


# -- predict -----------------------------------------------------------------------------------------


def predicted(**options: Any) -> httpx.Request:
    seen: list[httpx.Request] = []

    def gateway(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b"[1]")

    with client_of(gateway) as client:
        assert client.predict("iris", b"\x00\x01", **options) == b"[1]"
    (request,) = seen
    return request


def test_a_prediction_goes_through_the_gateway() -> None:
    request = predicted()
    assert str(request.url) == f"{GATEWAY}/models/iris/predict"
    assert request.read() == b"\x00\x01"
    assert request.headers["content-type"] == "application/json"


def test_a_prediction_can_name_version_path_and_type() -> None:
    request = predicted(version="v2", path="/v2/models/a b/infer", content_type="text/csv")
    assert str(request.url) == f"{GATEWAY}/models/iris/versions/v2/v2/models/a%20b/infer"
    assert request.headers["content-type"] == "text/csv"


def test_the_homes_own_token_is_not_shown_to_a_gateway_elsewhere() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    place = Place("http://127.0.0.1:1", "hw_home", GATEWAY, token_for_gateway=False)
    connection = Connection(lambda: place, httpx.MockTransport(answer))
    connection.predict(GATEWAY, "/models/iris/predict", b"", "text/csv")
    connection.ask("GET", "/v1/info")
    connection.close()

    assert ["authorization" in request.headers for request in seen] == [False, True]


@pytest.mark.parametrize(("url", "heeded"), [("http://127.0.0.1:1", False), ("https://control.example", True)])
def test_a_proxy_of_the_environment_is_heeded_except_for_this_machine(url: str, heeded: bool) -> None:
    connection = Connection(lambda: Place(url, None))
    assert connection._http.trust_env is heeded
    connection.close()


@pytest.mark.parametrize("path", ["", "../other/predict", "a//b", "a/./b"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with client_of(lambda request: httpx.Response(200)) as client, pytest.raises(InvalidInput):
        client.predict("iris", b"", path=path)


def test_what_would_be_special_in_a_url_is_no_name() -> None:
    with client_of(lambda request: httpx.Response(200)) as client:
        for call in (client.get, client.rollback, client.delete, client.spec, client.versions):
            with pytest.raises(InvalidName):
                call("../tokens")
        with pytest.raises(InvalidName):
            client.predict("iris", b"", version="1")
        with pytest.raises(InvalidName):
            client.revoke_token("a/b")


def test_the_gateway_that_does_not_answer_is_named() -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with client_of(broken) as client, pytest.raises(GatewayFailed, match=r"gateway\.example"):
        client.predict("iris", b"")


def test_an_error_of_the_model_comes_back_as_its_class() -> None:
    def full(request: httpx.Request) -> httpx.Response:
        return refusal(429, "overloaded", "full", details={"retry_after_s": 1})

    with client_of(full) as client, pytest.raises(Overloaded, match="full"):
        client.predict("iris", b"")


def test_without_a_gateway_url_the_control_api_is_asked_for_it_once() -> None:
    asked: list[str] = []

    def both(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json=INFO.model_dump() if request.url.path == "/v1/info" else [1])

    with Client(URL, "hw_secret", transport=httpx.MockTransport(both)) as client:
        client.predict("iris", b"")
        client.predict("iris", b"")

    assert asked == [f"{URL}/v1/info", *[f"{GATEWAY}/models/iris/predict"] * 2]


def test_events_are_read_page_by_page() -> None:
    control = PretendedControl()
    for _ in range(2500):
        control.tell("replica_ready", "v1")

    def page(request: httpx.Request) -> httpx.Response:
        after, limit = int(request.url.params["after"]), int(request.url.params["limit"])
        return httpx.Response(200, json=control.events[after : after + limit])

    with client_of(page) as client:
        assert [event.cursor for event in client.events(after=3)] == list(range(4, 2501))


# -- the real application ------------------------------------------------------------------------------


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def world(runner: asyncio.Runner) -> World:
    return runner.run(make_world())


@pytest.fixture
def bridge(world: World, runner: asyncio.Runner, tmp_path: Path) -> Bridge:
    return Bridge(world, runner, tmp_path / "bundles")


@pytest.fixture
def client(bridge: Bridge) -> Iterator[Client]:
    with Client(URL, ADMIN, transport=bridge) as client:
        yield client


def test_a_model_from_deploy_to_delete(client: Client, tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    first = client.deploy(folder, wait=False)
    assert (first.model, first.version, first.unchanged) == ("iris", "v1", False)
    assert client.deploy(folder, wait=False).unchanged

    assert [m.name for m in client.list()] == ["iris"]
    assert client.get("iris").target[0].version == "v1"
    assert [v.name for v in client.versions("iris")] == ["v1"]
    assert client.spec("iris")["metadata"] == {"name": "iris"}
    assert client.schema()["title"] == "ModelDeployment"
    assert "version_created.v1" in [event.type for event in client.events(model="iris")]

    assert client.scale("iris", 3).replicas == 3
    with pytest.raises(InvalidTraffic):
        client.set_traffic("iris", {"v1": 50, "v7": 50})
    with pytest.raises(InvalidInput):
        client.scale("iris", -1)
    with pytest.raises(Conflict):
        client.promote("iris")

    assert client.delete("iris") > 0
    with pytest.raises(Conflict):
        client.deploy(folder, wait=False)


def test_a_document_is_compared_and_applied(client: Client, tmp_path: Path) -> None:
    folder = model_folder(tmp_path, headway_yaml="metadata: {name: iris}\nspec: {scaling: {minReplicas: 2}}\n")
    document = folder / "headway.yaml"
    assert not client.diff(document).exists
    client.apply(document, wait=False)
    assert client.get("iris").replicas == 2
    assert client.diff(document).changes == []

    document.write_text("metadata: {name: iris}\nspec: {scaling: {minReplicas: 3}}\n")
    changed = client.diff(document)
    assert [(line.path, line.old, line.new) for line in changed.changes] == [("spec.scaling.minReplicas", 2, 3)]
    assert not changed.new_version


def test_a_document_that_says_nothing_of_replicas_leaves_them(client: Client, tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    client.deploy(folder, wait=False)
    client.scale("iris", 4)
    (folder / "model.py").write_text("def predict(X):\n    return [2]\n")
    client.deploy(folder, wait=False)
    assert client.get("iris").replicas == 4


def test_tokens_are_made_listed_and_revoked(client: Client) -> None:
    made = client.create_token("shop", models=["iris"], expires_in_s=60)
    assert made.token.startswith("hw_")
    assert (made.scope, made.models) == ("predict", ["iris"])
    assert [token.name for token in client.tokens()] == ["shop"]
    assert client.revoke_token("shop").state == "revoked"
    with pytest.raises(TokenNotFound):
        client.revoke_token("nobody")


def test_logs_come_as_lines(client: Client, world: World, tmp_path: Path) -> None:
    client.deploy(model_folder(tmp_path), wait=False)
    replica = world.runtime.add("iris", "v1", "bcdfg", phase=ReplicaPhase.READY)
    world.runtime.print(replica, b"one\n")
    world.runtime.print(replica, b"two\n")
    assert list(client.logs("iris")) == ["one", "two"]
    assert list(client.logs("iris", replica=replica, tail=1)) == ["two"]
    with pytest.raises(ModelNotFound):
        list(client.logs("nobody"))


def test_shutdown_is_asked_for(client: Client, world: World) -> None:
    client.shutdown()
    assert world.shutdowns == ["asked"]


def test_the_installation_describes_itself(client: Client) -> None:
    assert client.info() == INFO


def test_a_token_that_is_none_is_refused(bridge: Bridge, tmp_path: Path) -> None:
    with Client(URL, "hw_wrong", transport=bridge) as client:
        with pytest.raises(Unauthenticated):
            client.list()
        with pytest.raises(Unauthenticated):  # the answer to HEAD has no body that could say so
            client.deploy(model_folder(tmp_path))
