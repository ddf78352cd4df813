"""What is bounded before it takes memory: depth, values, elements; and whose fault an unusual input is."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import pytest

from headway.domain.errors import PayloadTooLarge
from headway.server.bodies import collector_paused
from headway.server.json_text import MAX_DEPTH, MAX_VALUES, parse_json
from tests.unit.server.bench import Bench


def echo(X: Any) -> Any:  # noqa: N803
    return X


def test_depth_is_bounded_where_answers_can_still_be_written() -> None:
    for depth, status in ((MAX_DEPTH, 200), (MAX_DEPTH + 1, 400)):
        for opening, closing in ((b'{"a":', b"}"), (b"[", b"]")):
            inner = depth - (opening == b"[")
            body = opening * inner + b"1" + closing * inner
            found = ask(body if opening == b'{"a":' else b'{"a":' + body + b"}")
            assert found == status


def ask(body: bytes) -> int:
    def predict(X: dict[str, Any]) -> Any:  # noqa: N803
        return X

    async def main() -> int:
        return (await Bench(predict).ask(body))[0]

    return asyncio.run(main())


def test_the_number_of_values_is_bounded_before_they_are_made() -> None:
    async def main() -> None:
        for body in (b"[" + b"[]," * MAX_VALUES + b"[]]", b"[[" + b"1," * MAX_VALUES + b"1]]"):
            found = await Bench(echo).error(body)
            assert (found["status"], found["code"]) == (413, "payload_too_large")

    asyncio.run(main())
    with pytest.raises(PayloadTooLarge):
        parse_json(b"[1,2,3]", max_values=2)
    assert parse_json(b"[1,2,3]", max_values=3) == [1, 2, 3]


@pytest.mark.parametrize(
    ("first", "then", "status"),
    [
        ({"a": 1}, {"b": 1}, 400),
        ({"a": 1}, {"a": "x"}, 400),
        ({"a": 1}, {"a": {}}, 400),
        ({"a": 1}, {"a": 0}, 500),
    ],
)
def test_objects_unlike_those_a_model_has_answered_are_the_clients_fault(
    first: dict[str, Any], then: dict[str, Any], status: int
) -> None:
    def predict(X: dict[str, Any]) -> Any:  # noqa: N803
        return 1 / X["a"].real

    async def main() -> None:
        bench = Bench(predict)
        await bench.predict(first)
        found, answer = await bench.ask(then)
        assert found == status, answer

    asyncio.run(main())


def test_text_for_a_model_that_knows_its_columns_is_the_clients_fault() -> None:
    class Fitted:
        n_features_in_ = 2

        def predict(self, X: Any) -> Any:  # noqa: N803
            return X.astype(float)[:, 0]

    async def main() -> None:
        assert (await Bench(Fitted()).ask([["a", "b"]]))[0] == 400

    asyncio.run(main())


def test_elements_that_become_python_objects_are_bounded() -> None:
    def rows(X: list[Any]) -> Any:  # noqa: N803
        return len(X)

    count = MAX_VALUES + 1
    for datatype, raw, subject in (("UINT8", b"\0" * count, rows), ("BYTES", b"\0" * 4 * count, echo)):
        spec = {"name": "X", "datatype": datatype, "shape": [count], "parameters": {"binary_data_size": len(raw)}}
        body, headers = binary({"inputs": [spec]}, raw)
        status, found = infer(subject, body, headers)
        assert (status, "more than 2097152" in found["error"]) == (413, True)
    spec = {"name": "X", "datatype": "UINT8", "shape": [count], "parameters": {"binary_data_size": count}}
    body, headers = binary({"inputs": [spec]}, b"\1" * count)
    status, found = infer(lambda X: X.sum(), body, headers)  # noqa: N803
    assert (status, found["outputs"][0]["data"]) == (200, [count])


def infer(subject: Any, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    async def main() -> tuple[int, Any]:
        return await Bench(subject).ask(body, "/v2/models/iris/infer", **headers)

    return asyncio.run(main())


def binary(head: dict[str, Any], raw: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return text + raw, {"inference_header_content_length": str(len(text))}


def test_large_bodies_are_decoded_without_the_garbage_collector() -> None:
    collections: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        collections.append(phase)

    async def main() -> None:
        bench = Bench(echo)
        body = json.dumps([{"a": i} for i in range(20_000)]).encode()
        gc.callbacks.append(note)
        try:
            answer = bench.send(body)[1]  # decoded when this returns, not predicted yet
        finally:
            gc.callbacks.remove(note)
        assert gc.isenabled()
        assert (await answer).status == 200
        with pytest.raises(ValueError, match="x"), collector_paused():
            raise ValueError("x")
        assert gc.isenabled()

    asyncio.run(main())
    assert collections.count("start") <= 2  # those that were due come after it
