"""``POST /api/v1.0/predictions``: Seldon's v1 messages in and out."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import pytest

from tests.unit.server.bench import Bench

PATH = "/api/v1.0/predictions"


def ask(subject: Any, body: bytes | object, **headers: str) -> tuple[int, Any]:
    async def main() -> tuple[int, Any]:
        return await Bench(subject).ask(body, PATH, **headers)

    return asyncio.run(main())


def answer(subject: Any, body: bytes | object) -> Any:
    status, found = ask(subject, body)
    assert status == 200, found
    return found


def echo(X: Any) -> Any:  # noqa: N803
    return X


def test_the_answer_keeps_the_form_of_the_request() -> None:
    assert answer(echo, {"data": {"ndarray": [[1, 2], [3, 4]]}}) == {
        "data": {"names": ["t:0", "t:1"], "ndarray": [[1.0, 2.0], [3.0, 4.0]]},
        "meta": {},
    }
    assert answer(echo, {"data": {"tensor": {"shape": [2, 2], "values": [1, 2, 3, 4]}}})["data"] == {
        "names": ["t:0", "t:1"],
        "tensor": {"shape": [2, 2], "values": [1.0, 2.0, 3.0, 4.0]},
    }
    assert answer(lambda X: X[:, 0], {"data": {"tensor": {"shape": [2, 1], "values": [1, 2]}}})["data"] == {  # noqa: N803
        "names": [],
        "tensor": {"shape": [2], "values": [1.0, 2.0]},
    }
    assert answer(lambda X: ["a"], {"data": {"tensor": {"shape": [1], "values": [1]}}})["data"] == {  # noqa: N803
        "names": [],
        "ndarray": ["a"],
    }


def test_names_reach_the_model_and_its_class_names_the_client() -> None:
    class Named:
        class_names = ("yes", "no")

        def predict(self, X: Any, names: Any = None, meta: Any = None) -> Any:  # noqa: N803
            assert names == ["a", "b"]
            return X

    assert answer(Named(), {"data": {"names": ["a", "b"], "ndarray": [[1, 2]]}})["data"]["names"] == ["yes", "no"]


def test_other_payloads_reach_the_model_as_they_are() -> None:
    def shown(X: Any) -> Any:  # noqa: N803
        return {"type": type(X).__name__}

    assert answer(shown, {"strData": "hi"})["jsonData"] == {"type": "str"}
    assert answer(shown, {"binData": base64.b64encode(b"\x00\xff").decode()})["jsonData"] == {"type": "bytes"}
    assert answer(shown, {"jsonData": {"a": 1}})["jsonData"] == {"type": "dict"}
    assert answer(shown, {"jsonData": [1]})["jsonData"] == {"type": "list"}
    assert answer(shown, {"data": {"ndarray": ["a", "b"]}})["jsonData"] == {"type": "ndarray"}


def test_payloads_that_are_no_rows_never_share_a_call() -> None:
    async def main() -> None:
        bench = Bench(lambda X: [X.upper()] * 2)  # noqa: N803
        answers = [bench.send({"strData": text}, PATH)[1] for text in ("a", "b")]
        assert [json.loads((await a).body)["data"]["ndarray"] for a in answers] == [["A", "A"], ["B", "B"]]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("result", "payload"),
    [
        ("text", {"strData": "text"}),
        (b"\x00\xff", {"binData": "AP8="}),
        ({"a": np.int64(1)}, {"jsonData": {"a": 1}}),
        (5, {"jsonData": 5}),
        ([1.5, 2], {"data": {"names": [], "tensor": {"shape": [2], "values": [1.5, 2]}}}),
        (np.array([[1, 2]]), {"data": {"names": ["t:0", "t:1"], "tensor": {"shape": [1, 2], "values": [1, 2]}}}),
        (pd.DataFrame({"a": [1], "b": ["x"]}), {"data": {"names": ["a", "b"], "ndarray": [[1, "x"]]}}),
        ([], {"data": {"names": [], "ndarray": []}}),
    ],
)
def test_results_choose_their_payload(result: Any, payload: dict[str, Any]) -> None:
    assert answer(lambda X: result, {"jsonData": {}}) == {**payload, "meta": {}}  # noqa: N803


def test_meta_carries_puid_tags_and_metrics() -> None:
    class Rich:
        def predict(self, X: Any) -> Any:  # noqa: N803
            return X

        def tags(self) -> dict[str, Any]:
            return {"mood": "good"}

        def metrics(self) -> list[dict[str, Any]]:
            return [{"type": "GAUGE", "key": "g", "value": 1}]

    body = {"meta": {"puid": "p1", "tags": {"x": 1}}, "data": {"ndarray": [[1]]}}
    assert answer(Rich(), body)["meta"] == {
        "puid": "p1",
        "requestPath": {"iris": "iris:v1"},
        "tags": {"x": 1, "mood": "good"},
        "metrics": [{"type": "GAUGE", "key": "g", "value": 1}],
    }


def test_failing_tags_are_the_models_fault() -> None:
    class Broken:
        def predict(self, X: Any) -> Any:  # noqa: N803
            return X

        def tags(self) -> Any:
            raise KeyError("mood")

    status, found = ask(Broken(), {"data": {"ndarray": [[1]]}})
    assert (status, found["error"]["code"]) == (500, "model_failed")
    assert "tags() raised KeyError" in found["error"]["message"]


def test_meta_reaches_a_model_that_takes_it() -> None:
    def predict(X: Any, meta: Any = None) -> Any:  # noqa: N803
        return {"meta": meta, "rows": len(X)}

    body = {"meta": {"puid": "p"}, "data": {"ndarray": [[1]]}}
    assert answer(predict, body)["jsonData"] == {"meta": {"puid": "p"}, "rows": 1}


def test_requests_of_different_formats_share_a_call() -> None:
    calls = []

    def predict(X: Any) -> Any:  # noqa: N803
        calls.append(len(X))
        return X * 2

    async def main() -> None:
        bench = Bench(predict)
        seldon = bench.send({"data": {"ndarray": [[1, 2]]}}, PATH)[1]
        rows = bench.send([[3, 4]])[1]
        mlflow = bench.send({"inputs": [[5, 6]]}, "/invocations")[1]
        bodies = [(await a).body for a in (seldon, rows, mlflow)]
        assert bodies[0].startswith(b'{"data":{"names":["t:0","t:1"],"ndarray":[[2.0,4.0]]}')
        assert bodies[1:] == [b'{"predictions":[[6.0,8.0]]}', b'{"predictions":[[10.0,12.0]]}']
        assert calls == [3]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"[1]", "JSON object"),
        ({}, "0 payloads"),
        ({"strData": "a", "jsonData": 1}, "2 payloads"),
        ({"ndarray": [[1]]}, "unknown key 'ndarray'"),
        ({"meta": 1, "jsonData": 1}, "meta must be an object"),
        ({"meta": {"tags": [1]}, "jsonData": 1}, "tags must be an object"),
        ({"data": [[1]]}, "data must be an object"),
        ({"data": {}}, "ndarray or tensor"),
        ({"data": {"ndarray": [[1]], "tensor": {}}}, "ndarray or tensor"),
        ({"data": {"ndarray": [[1], [1, 2]]}}, "row 1 has 2 values"),
        ({"data": {"names": ["a"], "ndarray": [[1, 2]]}}, "1 columns"),
        ({"data": {"tensor": [[1]]}}, "shape and values"),
        ({"data": {"tensor": {"shape": [10**9], "values": [1]}}}, "asks for 1000000000 values"),
        ({"data": {"tensor": {"shape": [10**400, 0], "values": []}}}, "above 0"),
        ({"data": {"tensor": {"shape": [1] * 100, "values": [1]}}}, "1 to 32 sizes"),
        ({"data": {"tensor": {"shape": [1.5], "values": [1]}}}, "above 0"),
        ({"data": {"tensor": {"shape": [1], "values": [[1]]}}}, "flat list"),
        ({"data": {"tensor": {"shape": [1], "values": "a"}}}, "flat list"),
        ({"strData": 5}, "must be a string"),
        ({"binData": "***"}, "not base64"),
    ],
)
def test_bad_messages_are_refused_with_a_reason(body: object, word: str) -> None:
    status, found = ask(echo, body)
    assert (status, found["error"]["code"]) == (400, "invalid_request")
    assert word in found["error"]["message"] + str(found["error"].get("hint"))


def test_what_is_not_supported_is_said() -> None:
    assert ask(echo, {"data": {"tftensor": {}}})[0] == 422


def form(text: str) -> bytes:
    return urlencode({"json": text}).encode()


def test_forms_carry_the_message_in_their_field_json() -> None:
    kind = "application/x-www-form-urlencoded"
    message = json.dumps({"data": {"ndarray": [[1, 2]]}})
    for body in (form(message), b"other=1&" + form(message), message.encode()):
        status, found = ask(echo, body, content_type=kind)
        assert (status, found["data"]["ndarray"]) == (200, [[1.0, 2.0]])
    for body in (b"other=1", form(message) + b"&" + form(message), b"a=1&" * 20 + form(message), b"json"):
        status, found = ask(echo, body, content_type=kind)
        assert status == 400
    assert ask(echo, form("[1"), content_type=kind)[1]["error"]["message"].startswith("the body is not valid JSON")
    assert ask(echo, form(message))[0] == 400  # no form, by what it says of itself


def test_errors_have_seldons_status_too() -> None:
    status, found = ask(echo, {"data": {"ndarray": [[1], [1, 2]]}})
    assert status == 400
    assert found["status"] == {
        "status": 1,
        "info": f"{found['error']['message']} ({found['error']['hint']})",
        "code": -1,
        "reason": "MICROSERVICE_BAD_DATA",
    }
    assert ask(lambda X: 1 / 0, {"jsonData": 1})[1]["status"]["reason"] == "MICROSERVICE_INTERNAL_ERROR"  # noqa: N803


def test_an_answer_can_be_referred_to_by_the_id_of_its_request() -> None:
    _, found = ask(echo, {"data": {"ndarray": [[1]]}}, x_request_id="r-7")
    assert found["meta"] == {"puid": "r-7", "requestPath": {"iris": "iris:v1"}}


def test_metrics_without_a_json_form_are_left_out() -> None:
    class Odd:
        def predict(self, X: Any) -> Any:  # noqa: N803
            return X

        def metrics(self) -> Any:
            return [{"type": "GAUGE", "key": "a", "value": 1}, {"key": object()}, {"key": "\ud800"}, "text", None]

    body = {"data": {"ndarray": [[1]]}}
    assert answer(Odd(), body)["meta"]["metrics"] == [{"type": "GAUGE", "key": "a", "value": 1}]
