"""Open Inference Protocol v2: tensors in and out as JSON and as bytes, metadata, refusals."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headway.server.http import Response
from tests.unit.server.bench import Bench, read

PATH = "/v2/models/iris/infer"
NUMERIC = {
    "UINT8": "u1", "UINT16": "u2", "UINT32": "u4", "UINT64": "u8",
    "INT8": "i1", "INT16": "i2", "INT32": "i4", "INT64": "i8",
    "FP16": "f2", "FP32": "f4", "FP64": "f8",
}  # fmt: skip


def echo(X: Any) -> Any:  # noqa: N803
    return X


def send(subject: Any, body: bytes | object, path: str = PATH, **headers: str) -> Response:
    async def main() -> Response:
        return await Bench(subject).send(body, path, **headers)[1]

    return asyncio.run(main())


def infer(subject: Any, body: bytes | object, **headers: str) -> Any:
    status, found = read(send(subject, body, **headers))
    assert status == 200, found
    return found


def refusal(subject: Any, body: bytes | object, **headers: str) -> tuple[int, str]:
    status, found = read(send(subject, body, **headers))
    assert isinstance(found["error"], str)
    return status, found["error"]


def one(datatype: str, shape: list[Any], data: Any, name: str = "X") -> dict[str, Any]:
    return {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]}


def binary(head: dict[str, Any], raw: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return text + raw, {"inference_header_content_length": str(len(text)), "content_type": "application/octet-stream"}


# -- JSON ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", NUMERIC)
def test_each_numeric_datatype_passes_through_as_itself(datatype: str) -> None:
    kinds = []

    def predict(X: Any) -> Any:  # noqa: N803
        kinds.append(X.dtype)
        return X

    output = infer(predict, one(datatype, [2, 2], [[1, 2], [3, 4]]))["outputs"][0]
    assert output == {"name": "predictions", "shape": [2, 2], "datatype": datatype, "data": [1, 2, 3, 4]}
    assert kinds == [np.dtype(NUMERIC[datatype])]


def test_booleans_and_text_pass_through() -> None:
    assert infer(echo, one("BOOL", [2], [True, False]))["outputs"][0]["data"] == [True, False]
    output = infer(echo, one("BYTES", [1, 2], ["a", "é"]))["outputs"][0]
    assert (output["datatype"], output["data"]) == ("BYTES", ["a", "é"])


def test_data_may_be_flat_or_nested_as_the_shape_says() -> None:
    shape = [2, 1, 2]
    for data in ([1, 2, 3, 4], [[[1, 2]], [[3, 4]]]):
        assert infer(echo, one("INT64", shape, data))["outputs"][0]["shape"] == shape


def test_null_is_nan_in_and_out() -> None:
    assert infer(echo, one("FP32", [2], [None, 1.5]))["outputs"][0]["data"] == [None, 1.5]


def test_id_and_names_come_back() -> None:
    answer = infer(echo, {"id": "q-1", **one("FP64", [1, 1], [1])})
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("iris", "v1", "q-1")
    assert "id" not in infer(echo, one("FP64", [1, 1], [1]))


@pytest.mark.parametrize(
    ("result", "outputs"),
    [
        ([1, 2], [("predictions", "INT64", [2], [1, 2])]),
        ([[0.5, 1]], [("predictions", "FP64", [1, 2], [0.5, 1.0])]),
        (np.float32(2), [("predictions", "FP32", [1], [2.0])]),
        (["a", "b"], [("predictions", "BYTES", [2], ["a", "b"])]),
        (np.array([b"a"]), [("predictions", "BYTES", [1], ["a"])]),
        (np.array(["2024-01-02"], dtype="M8[D]"), [("predictions", "BYTES", [1], ["2024-01-02"])]),
        ({"a": np.array([1]), "b": [True]}, [("a", "INT64", [1], [1]), ("b", "BOOL", [1], [True])]),
        (pd.DataFrame({"a": [1], "b": ["x"]}), [("a", "INT64", [1, 1], [1]), ("b", "BYTES", [1, 1], ["x"])]),
        ({"label": "x"}, [("predictions", "BYTES", [1], ['{"label":"x"}'])]),
        ([[1], [1, 2]], [("predictions", "BYTES", [1], ["[[1],[1,2]]"])]),
        (None, [("predictions", "BYTES", [1], ["null"])]),
    ],
)
def test_results_become_outputs(result: Any, outputs: list[tuple[Any, ...]]) -> None:
    found = infer(lambda X: result, one("FP64", [1, 1], [1]))["outputs"]  # noqa: N803
    assert [(o["name"], o["datatype"], o["shape"], o["data"]) for o in found] == outputs


def test_only_the_outputs_asked_for_are_sent() -> None:
    def predict(X: Any) -> Any:  # noqa: N803
        return {"a": X, "b": X}

    body = {**one("FP64", [1], [1]), "outputs": [{"name": "b"}]}
    assert [o["name"] for o in infer(predict, body)["outputs"]] == ["b"]
    status, error = refusal(predict, {**body, "outputs": [{"name": "c"}]})
    assert status == 400
    assert "no output 'c'" in error
    assert "a, b" in error


# -- several inputs ------------------------------------------------------------------------------------


def columns(*named: tuple[str, str, list[Any]]) -> dict[str, Any]:
    return {"inputs": [{"name": n, "datatype": t, "shape": [len(d), 1], "data": d} for n, t, d in named]}


def test_several_inputs_are_columns() -> None:
    seen: list[Any] = []

    def frame(X: pd.DataFrame) -> Any:  # noqa: N803
        seen.append(X)
        return X["a"]

    def array(X: Any, features_names: Any = None) -> Any:  # noqa: N803
        seen.append((X.tolist(), features_names))
        return X[:, 0]

    infer(frame, columns(("a", "INT32", [1, 2]), ("t", "BYTES", ["x", "y"])))
    assert list(seen[0].columns) == ["a", "t"]
    assert seen[0]["a"].dtype == np.int32
    assert seen[0]["t"].tolist() == ["x", "y"]
    infer(array, columns(("a", "INT32", [1, 2]), ("b", "FP32", [0.5, 1])))
    assert seen[1] == ([[1.0, 0.5], [2.0, 1.0]], ["a", "b"])
    assert infer(lambda X: 1, columns(("a", "INT32", [1])))  # noqa: N803


def test_dict_models_get_the_inputs_by_name_and_list_models_one_list() -> None:
    def whole(X: dict[str, Any]) -> Any:  # noqa: N803
        return X

    def rows(X: list[Any]) -> Any:  # noqa: N803
        return X

    found = infer(whole, columns(("a", "INT64", [1, 2])))["outputs"]
    assert found[0]["data"] == [1, 2]
    assert infer(rows, one("INT64", [2], [1, 2]))["outputs"][0]["data"] == [1, 2]
    assert refusal(rows, columns(("a", "INT64", [1]), ("b", "INT64", [1])))[0] == 422


def test_a_frame_model_takes_one_table_too() -> None:
    def frame(X: pd.DataFrame) -> Any:  # noqa: N803
        return [len(X.columns)] * len(X)

    assert infer(frame, one("FP32", [2, 3], list(range(6))))["outputs"][0]["data"] == [3, 3]
    assert refusal(frame, one("FP32", [1, 2, 3], list(range(6))))[0] == 400


def test_named_features_are_put_in_order_and_missing_ones_named() -> None:
    class Named:
        feature_names_in_ = ("a", "b")

        def predict(self, X: Any) -> Any:  # noqa: N803
            return X

    swapped = columns(("b", "FP64", [2.0]), ("a", "FP64", [1.0]))
    assert infer(Named(), swapped)["outputs"][0]["data"] == [1.0, 2.0]
    assert "missing: 'b'" in refusal(Named(), columns(("a", "FP64", [1]), ("c", "FP64", [1])))[1]


def test_requests_of_one_type_and_width_share_a_call() -> None:
    calls = []

    def predict(X: Any) -> Any:  # noqa: N803
        calls.append((X.dtype.str, len(X)))
        return X

    async def main() -> None:
        bench = Bench(predict)
        bodies = [one("FP32", [1, 2], [i, i]) for i in range(3)] + [one("FP64", [1, 2], [9, 9])]
        answers = await asyncio.gather(*(bench.send(body, PATH)[1] for body in bodies))
        assert [json.loads(a.body)["outputs"][0]["data"][0] for a in answers] == [0, 1, 2, 9]
        assert [json.loads(a.body)["outputs"][0]["datatype"] for a in answers] == ["FP32"] * 3 + ["FP64"]
        assert calls == [("<f4", 3), ("<f8", 1)]

    asyncio.run(main())


# -- binary ----------------------------------------------------------------------------------------------


def raw_outputs(response: Response) -> list[tuple[dict[str, Any], bytes]]:
    size = int(dict(response.headers)[b"inference-header-content-length"])
    head, rest = json.loads(response.body[:size]), response.body[size:]
    found = []
    for output in head["outputs"]:
        length = output["parameters"]["binary_data_size"]
        found.append((output, rest[:length]))
        rest = rest[length:]
    assert rest == b""
    return found


@pytest.mark.parametrize("datatype", [*NUMERIC, "BOOL"])
def test_binary_tensors_pass_through_unchanged(datatype: str) -> None:
    raw = np.array([[1, 0, 1]], dtype=NUMERIC.get(datatype, "?")).tobytes()
    head = {
        "inputs": [{"name": "X", "datatype": datatype, "shape": [1, 3], "parameters": {"binary_data_size": len(raw)}}],
        "parameters": {"binary_data_output": True},
    }
    body, headers = binary(head, raw)
    response = send(echo, body, **headers)
    assert response.content_type == b"application/octet-stream"
    ((output, data),) = raw_outputs(response)
    assert (output["datatype"], data) == (datatype, raw)


def test_binary_bytes_and_bf16() -> None:
    raw = b"".join(struct.pack("<I", len(e)) + e for e in (b"a", b"", "é".encode()))
    spec = {"name": "X", "datatype": "BYTES", "shape": [3], "parameters": {"binary_data_size": len(raw)}}
    body, headers = binary(
        {"inputs": [spec], "outputs": [{"name": "predictions", "parameters": {"binary_data": True}}]}, raw
    )
    assert raw_outputs(send(echo, body, **headers))[0][1] == raw
    image = struct.pack("<I", 2) + b"\xff\xd8"
    body, headers = binary({"inputs": [{**spec, "shape": [1], "parameters": {"binary_data_size": 6}}]}, image)
    assert infer(lambda X: [type(X[0]).__name__], body, **headers)["outputs"][0]["data"] == ["bytes"]  # noqa: N803
    half = np.array([1.5, -2.0], dtype="<f4").view("<u4") >> 16
    spec = {"name": "X", "datatype": "BF16", "shape": [2], "parameters": {"binary_data_size": 4}}
    body, headers = binary({"inputs": [spec]}, half.astype("<u2").tobytes())
    assert infer(echo, body, **headers)["outputs"][0] == {
        "name": "predictions", "shape": [2], "datatype": "FP32", "data": [1.5, -2.0],
    }  # fmt: skip


def test_a_model_may_write_into_a_binary_tensor() -> None:
    def predict(X: Any) -> Any:  # noqa: N803
        X += 1  # noqa: N806
        return X

    spec = {"name": "X", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}
    body, headers = binary({"inputs": [spec]}, struct.pack("<f", 1))
    assert infer(predict, body, **headers)["outputs"][0]["data"] == [2.0]


# -- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"[1]", "needs inputs"),
        ({}, "needs inputs"),
        ({"inputs": []}, "needs inputs"),
        ({"inputs": [5]}, "a tensor is a JSON object"),
        ({"inputs": [{}]}, "needs a name"),
        (one("FP128", [1], [1]), "unknown datatype"),
        (one("FP64", [10**9], [1]), "asks for 1000000000 elements"),
        (one("FP64", [10**30], [1]), "above 0"),
        (one("FP64", [2**40, 2**40], [1]), "elements, there are 1"),
        (one("FP64", [-1], [1]), "above 0"),
        (one("FP64", [0], []), "above 0"),
        (one("FP64", [True], [1]), "above 0"),
        (one("FP64", [], 1), "1 to 32"),
        (one("FP64", [1] * 40, [1]), "1 to 32"),
        (one("FP64", [2, 2], [[1, 2], [3]]), "not nested as shape says"),
        (one("FP64", [2, 2], [[1, 2, 3, 4]]), "not nested as shape says"),
        (one("FP64", [2], [[1], [2]]), "not nested as shape says"),
        (one("FP64", [1], ["a"]), "'a' is not FP64"),
        (one("FP32", [1], [1e39]), "beyond the range of FP32"),
        (one("FP16", [1], [70000]), "beyond the range of FP16"),
        (one("INT8", [1], [128]), "beyond the range of INT8"),
        (one("UINT8", [1], [-1]), "beyond the range of UINT8"),
        (one("INT64", [1], [2**63]), "beyond the range"),
        (one("INT64", [1], [1.5]), "is not INT64"),
        (one("INT64", [1], [True]), "is not INT64"),
        (one("BOOL", [1], [1]), "is not BOOL"),
        (one("BYTES", [1], [1]), "is not BYTES"),
        (one("BF16", [1], [1]), "no JSON form"),
        ({"inputs": [{"name": "X", "datatype": "FP64", "shape": [1]}]}, "data must be a list"),
        ({**one("FP64", [1], [1]), "id": 5}, "id must be a string"),
        ({**one("FP64", [1], [1]), "extra": 5}, "unknown key 'extra'"),
        ({**one("FP64", [1], [1]), "parameters": 5}, "must be an object"),
        ({**one("FP64", [1], [1]), "parameters": {"binary_data_output": 1}}, "true or false"),
        ({**one("FP64", [1], [1]), "outputs": {}}, "list of objects"),
        ({**one("FP64", [1], [1]), "outputs": [{}]}, "needs a name"),
        ({"inputs": one("FP64", [1], [1])["inputs"] * 2}, "given twice"),
        (columns(("a", "FP64", [1]), ("b", "FP64", [1, 2])), "number of rows"),
        (columns(("a", "FP64", [1]), ("b", "BYTES", ["x"])), "mix numbers and BYTES"),
        (
            {"inputs": [*one("FP64", [1, 2], [1, 2], "a")["inputs"], *one("FP64", [1], [1], "b")["inputs"]]},
            "are columns",
        ),
    ],
)
def test_bad_requests_are_refused_with_a_reason(body: object, word: str) -> None:
    status, error = refusal(echo, body)
    assert status == 400
    assert word in error
    assert len(error) < 400


@pytest.mark.parametrize(
    ("datatype", "shape", "size", "raw", "length", "word"),
    [
        ("FP32", [2], 4, b"\0" * 4, None, "asks for 8 bytes"),
        ("FP32", [10**9], 4, b"\0" * 4, None, "asks for 4000000000 bytes"),
        ("FP32", [1], 8, b"\0" * 4, None, "does not fit the body"),
        ("FP32", [1], -4, b"\0" * 4, None, "does not fit the body"),
        ("FP32", [1], True, b"\0" * 4, None, "does not fit the body"),
        ("FP32", [1], 4, b"\0" * 9, None, "5 bytes of the body belong to no input"),
        ("BYTES", [1], 4, b"\xff\xff\xff\xff", None, "lengths of BYTES"),
        ("BYTES", [2], 4, b"\0\0\0\0", None, "do not fit into 4 bytes"),
        ("BYTES", [10**9], 4, b"\0\0\0\0", None, "do not fit into 4 bytes"),
        ("BYTES", [1], 8, b"\1\0\0\0ab\0\0", None, "lengths of BYTES"),
        ("FP32", [1], 4, b"\0" * 4, "99999", "not the length of a part"),
        ("FP32", [1], 4, b"\0" * 4, "-1", "not the length of a part"),
        ("FP32", [1], 4, b"\0" * 4, "x", "not the length of a part"),
    ],
)
def test_bad_binary_parts_are_refused(
    datatype: str, shape: list[int], size: int, raw: bytes, length: str | None, word: str
) -> None:
    spec = {"name": "X", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
    body, headers = binary({"inputs": [spec]}, raw)
    if length is not None:
        headers["inference_header_content_length"] = length
    status, error = refusal(echo, body, **headers)
    assert status == 400
    assert word in error


@pytest.mark.parametrize("parameter", ["shared_memory_region", "classification"])
def test_extensions_that_are_not_offered_are_refused(parameter: str) -> None:
    body = one("FP64", [1], [1])
    body["inputs"][0]["parameters"] = {parameter: "x"}
    assert refusal(echo, body)[0] == 422


@pytest.mark.parametrize(("parameter", "word"), [("priority", "order"), ("timeout", "x-request-timeout-ms")])
def test_scheduling_parameters_are_refused(parameter: str, word: str) -> None:
    status, error = refusal(echo, {**one("FP64", [1], [1]), "parameters": {parameter: 1}})
    assert status == 422
    assert word in error


def test_parameters_of_its_own_reach_a_model_that_takes_params() -> None:
    def predict(X: Any, params: Any = None) -> Any:  # noqa: N803
        return [json.dumps(params)]

    for parameters, seen in (({"k": 1, "binary_data_output": False}, '{"k": 1}'), ({"timeout": 0}, "null")):
        body = {**one("FP64", [1], [1]), "parameters": parameters}
        assert infer(predict, body)["outputs"][0]["data"] == [seen]
    assert infer(echo, {**one("FP64", [1], [1]), "parameters": {"k": 1}})["outputs"][0]["data"] == [1.0]


def test_texts_keep_their_nuls_and_take_no_more_room_than_they_have() -> None:
    def rows(X: list[Any]) -> Any:  # noqa: N803
        return X

    data = ["a\0", "", *["b"] * 20_000, "c" * 1_000_000]  # as one array of equally wide texts: 80 GB
    output = infer(rows, one("BYTES", [len(data)], data))["outputs"][0]
    assert (output["datatype"], output["data"]) == ("BYTES", data)
    assert infer(rows, one("BYTES", [1, 2], ["a", "b"]))["outputs"][0]["shape"] == [1, 2]


def test_lists_of_texts_and_numbers_are_one_piece_of_json() -> None:
    output = infer(lambda X: [1, "a"], one("FP64", [1], [1]))["outputs"][0]  # noqa: N803
    assert (output["shape"], output["data"]) == ([1], ['[1,"a"]'])
