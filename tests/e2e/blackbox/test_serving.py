"""A model answers in every protocol, says who answered, refuses what is wrong and lives on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.blackbox.place import Place, deploy, ok

ROWS = "[[1, 2], [3, 4]]"


@pytest.fixture(scope="module")
def times(place: Place) -> Iterator[Place]:
    place.needs("answers")
    deploy(place, "times", {"FACTOR": 2})
    yield place
    ok(place, "delete", "times", "--yes")


PROTOCOLS: dict[str, tuple[str, str, Callable[[Any], object]]] = {
    "rows": ("/predict", ROWS, lambda said: said["predictions"]),
    "mlflow": ("/invocations", '{"inputs": [[1, 2], [3, 4]]}', lambda said: said["predictions"]),
    "mlflow split": (
        "/invocations",
        '{"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}}',
        lambda said: said["predictions"],
    ),
    "seldon": (
        "/api/v1.0/predictions",
        '{"data": {"ndarray": [[1, 2], [3, 4]]}}',
        lambda said: said["data"]["ndarray"],
    ),
    "open inference": (
        "/v2/models/times/infer",
        json.dumps({"inputs": [{"name": "x", "shape": [2, 2], "datatype": "INT64", "data": [1, 2, 3, 4]}]}),
        lambda said: [said["outputs"][0]["data"][:2], said["outputs"][0]["data"][2:]],
    ),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_gives_the_same_answer(times: Place, protocol: str) -> None:
    path, body, rows = PROTOCOLS[protocol]
    reply = times.caller("times")(path, body)
    assert reply.status == 200, reply.body
    assert rows(reply.json()) == [[2, 4], [6, 8]]


def test_an_answer_says_whose_it_is(times: Place) -> None:
    reply = times.caller("times")("/predict", X_Request_Id="my-id")
    assert reply.version == "v1"
    assert reply.headers["x-headway-replica"].startswith("times-v1-")
    assert reply.headers["x-request-id"] == "my-id"


BAD: dict[str, tuple[str, str | bytes, dict[str, str]]] = {
    "unknown path": ("/nothing-here", "[[1]]", {}),
    "no body": ("/predict", "", {}),
    "not json": ("/predict", "{oops", {}),
    "deep json": ("/predict", "[" * 100_000 + "]" * 100_000, {}),
    "nan": ("/predict", "[[NaN]]", {}),
    "a string": ("/predict", '"hello"', {}),
    "a number": ("/predict", "1e400", {}),
    "bad utf-8": ("/predict", b'[["\xff\xfe"]]', {}),
    "xml": ("/predict", "<a/>", {"Content_Type": "text/xml"}),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_is_refused_clearly(times: Place, kind: str) -> None:
    path, body, headers = BAD[kind]
    call = times.caller("times")
    reply = call(path, body, method="POST", **headers)
    assert 400 <= reply.status < 500, (reply.status, reply.body[:300])
    error = reply.json()["error"]
    assert error["code"]
    assert error["message"]
    assert "Traceback" not in reply.body.decode()
    assert call("/predict").json() == {"predictions": [[2, 4]]}


def test_a_model_that_fails_says_so_and_lives_on(times: Place) -> None:
    call = times.caller("times")
    reply = call("/predict", "[[13]]")
    assert reply.status == 500
    assert "13 brings bad luck" in reply.json()["error"]["message"]
    assert "Traceback" not in reply.body.decode()
    assert call("/predict").json() == {"predictions": [[2, 4]]}
