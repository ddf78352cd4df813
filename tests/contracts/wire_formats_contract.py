"""What every door to a model does: each protocol's documented requests, and its own client where there is one.

An adapter gives a client whose base URL is the model's and ``door``, the same as ``host:port/prefix``. The model is
:data:`MODEL`, named iris, version v1.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import ml_dtypes
import numpy
import pytest
import tritonclient.http as triton_http

MODEL = """
import numpy as np
class Sum:
    def predict(self, X, features_names=None, params=None):
        if isinstance(X, (str, bytes, dict)) or (params or {}).get("echo"):
            return X
        if (params or {}).get("both"):
            return {"sum": X.sum(axis=1), "most": X.max(axis=1)}
        if X.dtype == object:
            return np.array([[str(cell).upper() for cell in row] for row in X], dtype=object)
        if X.shape[1] != 4:
            raise ValueError(f"X has {X.shape[1]} features, but Sum is expecting 4 features as input")
        return X.sum(axis=1)
    def tags(self):
        return {"kind": "sum"}
    def metrics(self):
        return [{"type": "GAUGE", "key": "rows", "value": 1, "tags": {"odd": 'a"b\\\\c'}}]
"""
SAMPLE = "[[5.0, 3.5, 1.5, 0.0]]"
ROW = [5.0, 3.5, 1.5, 0.5]
GAUGE = {"type": "GAUGE", "key": "rows", "value": 1, "tags": {"odd": 'a"b\\c'}}
META = {"tags": {"kind": "sum"}, "metrics": [GAUGE]}
BAD_BODIES = [b"", b"[[1, NaN]]", b"[[1e400]]", b"[[1], [1, 2]]", b"[" * 100_000, b"\xff", b"[[1, 2]]"]
NAMES = ["a", "b", "c", "d"]
TENSORS: dict[str, tuple[str, Any]] = {
    "BOOL": ("bool", [[True, False]]),
    "UINT8": ("uint8", [[0, 2**8 - 1]]),
    "UINT16": ("uint16", [[0, 2**16 - 1]]),
    "UINT32": ("uint32", [[0, 2**32 - 1]]),
    "UINT64": ("uint64", [[0, 2**64 - 1]]),
    "INT8": ("int8", [[-(2**7), 2**7 - 1]]),
    "INT16": ("int16", [[-(2**15), 2**15 - 1]]),
    "INT32": ("int32", [[-(2**31), 2**31 - 1]]),
    "INT64": ("int64", [[-(2**63), 2**63 - 1]]),
    "FP16": ("float16", [[1.5, -65504.0]]),
    "FP32": ("float32", [[1.5, -3.4028234663852886e38]]),
    "FP64": ("float64", [[0.1, -1.7976931348623157e308]]),
    "BYTES": ("object", [[b"a", b"", "é\0".encode()]]),
}
"""numpy's name of each datatype, and values at the ends of its range."""


def told(answer: httpx.Response) -> Any:
    """A Seldon answer without what says which request it was and who answered, where it had an id."""
    document = answer.json()
    puid, path = document["meta"].pop("puid", None), document["meta"].pop("requestPath", None)
    assert (path is None) == (puid is None)
    if path is not None:
        assert puid
        assert all(answers.partition(":")[::2] == (unit, "v1") for unit, answers in path.items())
    return document


class WireFormatsContract:
    @pytest.fixture
    def client(self) -> httpx.Client:
        raise NotImplementedError

    @pytest.fixture
    def door(self) -> str:
        raise NotImplementedError

    # -- plain rows, and what holds for all ------------------------------------------------------

    def test_rows_records_and_instances(self, client: httpx.Client) -> None:
        record = dict(zip(NAMES, ROW, strict=True))
        for body in ([ROW], [record], {"instances": [ROW]}, {"instances": [ROW], "columns": NAMES}):
            answer = client.post("predict", json=body)
            assert (answer.status_code, answer.json()) == (200, {"predictions": [10.5]})
            assert answer.headers["x-headway-version"] == "v1"
            assert answer.headers["x-headway-replica"].startswith("iris-v1-")

    def test_a_sane_request_id_comes_back(self, client: httpx.Client) -> None:
        assert client.post("predict", json=[ROW], headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
        assert len(client.post("predict", json=[ROW]).headers["x-request-id"]) >= 8

    def test_compressed_and_chunked_bodies(self, client: httpx.Client) -> None:
        body = json.dumps([ROW]).encode()
        packed = client.post("predict", content=gzip.compress(body), headers={"content-encoding": "gzip"})
        assert packed.json() == {"predictions": [10.5]}
        assert client.post("predict", content=iter([body[:5], body[5:]])).json() == {"predictions": [10.5]}

    @pytest.mark.parametrize("body", BAD_BODIES)
    def test_bad_input_is_a_400_with_a_reason(self, client: httpx.Client, body: bytes) -> None:
        for path in ("predict", "invocations", "api/v1.0/predictions"):
            answer = client.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "invalid_request"
            assert "Traceback" not in answer.text
        assert client.post("predict", json=[ROW]).status_code == 200

    def test_other_paths_methods_and_types_are_refused(self, client: httpx.Client) -> None:
        assert client.get("nothing-here").status_code == 404
        assert client.get("predict").status_code == 405
        assert client.post("predict", content=b"a,b", headers={"content-type": "text/csv"}).status_code == 415

    def test_health_metrics_and_description(self, client: httpx.Client) -> None:
        for path in ("health/live", "health/ready", "health/ping", "health/status", "ping", "health", "version"):
            assert client.get(path).status_code == 200, path
        assert "headway_requests_total" in client.get("metrics").text
        assert client.get("openapi.json").json()["info"]["title"] == "iris"

    # -- MLflow --------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "body",
        [
            {"dataframe_split": {"columns": NAMES, "data": [ROW, ROW]}},
            {"dataframe_split": {"index": [0, 1], "columns": NAMES, "data": [ROW, ROW]}},
            {"dataframe_split": {"columns": [0, 1, 2, 3], "data": [ROW, ROW]}},
            {"dataframe_split": {"data": [ROW, ROW]}},
            {"dataframe_records": [dict(zip(NAMES, ROW, strict=True))] * 2},
            {"instances": [ROW, ROW]},
            {"instances": [dict(zip(NAMES, ROW, strict=True))] * 2},
            {"inputs": [ROW, ROW]},
            {"inputs": {name: [value, value] for name, value in zip(NAMES, ROW, strict=True)}},
            {"inputs": {"x": [ROW, ROW]}},
            {"inputs": [ROW, ROW], "params": {"echo": False}},
        ],
    )
    def test_mlflow_json(self, client: httpx.Client, body: dict[str, Any]) -> None:
        assert client.post("invocations", json=body).json() == {"predictions": [10.5, 10.5]}

    @pytest.mark.parametrize(
        ("body", "rows"),
        [
            ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, None]]}}, [[1.0, None]]),
            ({"instances": [[[1, 2], [3, 4]]]}, [[[1.0, 2.0], [3.0, 4.0]]]),
            ({"instances": ["2024-01-02", "x"]}, ["2024-01-02", "x"]),
            ({"inputs": [1, 2, 3]}, [1.0, 2.0, 3.0]),
            ({"dataframe_records": [{"day": "2024-01-02T03:04:05Z", "b": "x"}]}, [["2024-01-02T03:04:05Z", "x"]]),
        ],
    )
    def test_mlflow_missing_values_tensors_scalars_and_dates(
        self, client: httpx.Client, body: dict[str, Any], rows: Any
    ) -> None:
        assert client.post("invocations", json={**body, "params": {"echo": True}}).json() == {"predictions": rows}

    @pytest.mark.parametrize(
        "text",
        [
            "a,b,c,d\n5.0,3.5,1.5,0.5\n",
            "a,b,c,d\r\n5.0,3.5,1.5,0.5",
            '"a","b","c","d"\n"5.0","3.5",1.5,.5\n',
            "\ufeffa,b,c,d\n5,3.5,15e-1,0.5\n\n",
            "a,b,c,d\nTrue,3.5,5,True\n",
        ],
    )
    @pytest.mark.parametrize("kind", ["text/csv", "text/csv; charset=utf-8", 'Text/CSV;charset="UTF-8"'])
    def test_mlflow_csv(self, client: httpx.Client, text: str, kind: str) -> None:
        answer = client.post("invocations", content=text.encode(), headers={"content-type": kind})
        assert answer.json() == {"predictions": [10.5]}

    @pytest.mark.parametrize(
        ("kind", "status"),
        [
            ("application/json", 200),
            ("application/json; charset=utf-8", 200),
            ("application/json; charset=latin-1", 415),
            ("application/json; format=pandas-split", 415),
            ("application/vnd.apache.parquet", 415),
            ("text/csv", 400),
        ],
    )
    def test_mlflow_content_types(self, client: httpx.Client, kind: str, status: int) -> None:
        answer = client.post("invocations", content=json.dumps({"inputs": [ROW]}), headers={"content-type": kind})
        assert answer.status_code == status
        if status != 200:
            assert answer.json()["error_code"] == "BAD_REQUEST"
            assert answer.json()["error"]["message"] in answer.json()["message"]

    def test_mlflow_health(self, client: httpx.Client) -> None:
        assert [client.get(path).status_code for path in ("ping", "health", "version")] == [200] * 3

    # -- Seldon --------------------------------------------------------------------------------------

    @pytest.mark.parametrize("path", ["api/v1.0/predictions", "api/v0.1/predictions"])
    def test_seldon_arrays_and_tensors(self, client: httpx.Client, path: str) -> None:
        array = client.post(path, json={"data": {"names": NAMES, "ndarray": [ROW]}})
        assert told(array) == {"data": {"names": [], "ndarray": [10.5]}, "meta": META}
        tensor = {"tensor": {"shape": [1, 4], "values": ROW}}
        meta = {"puid": "p", "tags": {"x": 1}, "routing": {}, "requestPath": {}, "metrics": []}
        answer = client.post(path, json={"meta": meta, "data": tensor})
        assert answer.json()["meta"]["puid"] == "p"
        assert told(answer) == {
            "data": {"names": [], "tensor": {"shape": [1], "values": [10.5]}},
            "meta": {**META, "tags": {"x": 1, "kind": "sum"}},
        }
        text = client.post(path, json={"data": {"ndarray": [["a", "b"]]}})
        assert text.json()["data"] == {"names": ["t:0", "t:1"], "ndarray": [["A", "B"]]}

    @pytest.mark.parametrize("payload", [{"strData": "hello"}, {"jsonData": {"a": [1, None]}}, {"binData": "AP8="}])
    def test_seldon_other_payloads(self, client: httpx.Client, payload: dict[str, Any]) -> None:
        assert told(client.post("api/v1.0/predictions", json=payload)) == {**payload, "meta": META}

    def test_seldon_forms(self, client: httpx.Client) -> None:
        message = json.dumps({"data": {"ndarray": [ROW]}})
        answer = client.post("api/v1.0/predictions", data={"json": message})
        assert answer.json()["data"] == {"names": [], "ndarray": [10.5]}
        refused = client.post("api/v1.0/predictions", data={"other": message})
        assert (refused.status_code, refused.json()["status"]["status"]) == (400, 1)
        assert "field json" in refused.json()["status"]["info"]
        assert client.post("api/v1.0/predictions", files={"strData": "x"}).status_code == 415

    def test_seldon_feedback_is_taken(self, client: httpx.Client) -> None:
        asked = {"data": {"ndarray": [ROW]}}
        body = {"reward": 1.0, "request": asked, "response": {"meta": {"puid": "p1"}}, "truth": asked}
        answer = client.post("api/v1.0/feedback", json=body)
        assert (answer.status_code, answer.json()) == (200, {"meta": {"puid": "p1"}})
        assert client.post("api/v1.0/feedback", json={"reward": "much"}).status_code == 400

    def test_seldon_tftensor_is_refused(self, client: httpx.Client) -> None:
        for path, body in (
            ("feedback", {"request": {"data": {"tftensor": {"dtype": "DT_FLOAT"}}}}),
            ("predictions", {"data": {"tftensor": {"dtype": "DT_FLOAT"}}}),
        ):
            answer = client.post(f"api/v1.0/{path}", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unsupported")
            assert "not supported" in answer.json()["status"]["info"]

    def test_seldon_health(self, client: httpx.Client) -> None:
        assert [client.get(f"health/{name}").status_code for name in ("ping", "status")] == [200] * 2

    # -- Open Inference v2 -------------------------------------------------------------------------------

    def test_open_inference_json(self, client: httpx.Client) -> None:
        body = {"id": "7", "inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": ROW}]}
        assert client.post("v2/models/iris/infer", json=body).json() == {
            "model_name": "iris",
            "model_version": "v1",
            "id": "7",
            "outputs": [{"name": "predictions", "shape": [1], "datatype": "FP32", "data": [10.5]}],
        }

    def test_open_inference_binary(self, client: httpx.Client) -> None:
        raw = struct.pack("<4f", *ROW)
        head = json.dumps(
            {
                "inputs": [
                    {"name": "X", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
                ],
                "outputs": [{"name": "predictions", "parameters": {"binary_data": True}}],
            }
        ).encode()
        answer = client.post(
            "v2/models/iris/infer", content=head + raw, headers={"inference-header-content-length": str(len(head))}
        )
        size = int(answer.headers["inference-header-content-length"])
        assert json.loads(answer.content[:size])["outputs"][0]["parameters"] == {"binary_data_size": 4}
        assert struct.unpack("<f", answer.content[size:]) == (10.5,)

    def test_open_inference_metadata(self, client: httpx.Client) -> None:
        for path in ("v2/health/live", "v2/health/ready", "v2/models/iris/ready", "v2/models/iris/versions/1/ready"):
            assert client.get(path).status_code == 200
        assert client.get("v2").json()["extensions"] == ["binary_tensor_data"]
        model = client.get("v2/models/iris").json()
        assert model["inputs"] == [{"name": "X", "datatype": "FP64", "shape": [-1, 4]}]
        assert model["outputs"] == [{"name": "predictions", "datatype": "FP64", "shape": [-1]}]
        assert client.get("v2/models/other").status_code == 404

    def test_open_inference_refusals_say_what_is_wrong(self, client: httpx.Client) -> None:
        for tensor, word in (
            ({"shape": [1, 5], "datatype": "FP32", "data": ROW}, "asks for 5 elements"),
            ({"shape": [10**9], "datatype": "FP32", "data": ROW}, "asks for 1000000000 elements"),
            ({"shape": [2**31, 2**31], "datatype": "INT8", "data": ROW}, "asks for 4611686018427387904 elements"),
            ({"shape": [-1, 4], "datatype": "FP32", "data": ROW}, "above 0"),
            ({"shape": [1, 4], "datatype": "INT8", "data": [1, 2, 3, 300]}, "beyond the range of INT8"),
            ({"shape": [1, 4], "datatype": "FLOAT", "data": ROW}, "unknown datatype"),
            ({"shape": [1, 3], "datatype": "FP32", "data": ROW[:3]}, "expecting 4 features"),
        ):
            answer = client.post("v2/models/iris/infer", json={"inputs": [{"name": "X", **tensor}]})
            assert answer.status_code == 400
            assert word in answer.json()["error"]

    @pytest.fixture
    def triton(self, door: str) -> Iterator[Any]:
        client = triton_http.InferenceServerClient(door)
        yield client
        client.close()

    def test_tritons_own_client_reads_state_and_metadata(self, triton: Any) -> None:
        assert triton.is_server_live()
        assert triton.is_server_ready()
        assert triton.is_model_ready("iris")
        assert triton.is_model_ready("iris", "1")
        assert not triton.is_model_ready("other")
        assert triton.get_server_metadata()["name"] == "headway"
        metadata = triton.get_model_metadata("iris")
        assert (metadata["name"], metadata["versions"], metadata["inputs"][0]["shape"]) == ("iris", ["v1"], [-1, 4])
        assert triton.get_model_repository_index()[0]["state"] == "READY"
        with pytest.raises(triton_http.InferenceServerException, match="nothing at"):
            triton.get_model_config("iris")

    @pytest.mark.parametrize("datatype", TENSORS)
    @pytest.mark.parametrize(("binary_in", "binary_out"), [(True, True), (True, False), (False, True), (False, False)])
    def test_tritons_own_client_sends_every_datatype(
        self, triton: Any, datatype: str, binary_in: bool, binary_out: bool
    ) -> None:
        array = numpy.array(TENSORS[datatype][1], dtype=TENSORS[datatype][0])
        tensor = triton_http.InferInput("X", list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary_in)
        wanted = [triton_http.InferRequestedOutput("predictions", binary_data=binary_out)]
        found = triton.infer("iris", [tensor], outputs=wanted, request_id="r", parameters={"echo": True})
        assert found.get_response()["id"] == "r"
        assert found.get_output("predictions")["datatype"] == datatype
        came = found.as_numpy("predictions")
        if datatype == "BYTES" and not binary_out:
            came = numpy.array([[cell.encode() for cell in row] for row in came.tolist()], dtype=object)
        assert (came.shape, came.tolist()) == (array.shape, array.tolist())

    def test_tritons_own_client_sends_bf16_as_bytes_and_gets_fp32(self, triton: Any) -> None:
        tensor = triton_http.InferInput("X", [1, 4], "BF16")
        tensor.set_data_from_numpy(numpy.array([[1.5, -2.0, 0.0, 3e38]], dtype=ml_dtypes.bfloat16))
        found = triton.infer("iris", [tensor], parameters={"echo": True})
        assert found.get_output("predictions")["datatype"] == "FP32"
        assert found.as_numpy("predictions")[0, :3].tolist() == [1.5, -2.0, 0.0]

    def test_tritons_own_client_asks_for_outputs_by_name(self, triton: Any) -> None:
        tensor = triton_http.InferInput("X", [2, 4], "FP32")
        tensor.set_data_from_numpy(numpy.array([ROW, ROW], dtype="float32"))
        names = (("most", True), ("sum", False))
        wanted = [triton_http.InferRequestedOutput(name, binary_data=binary) for name, binary in names]
        found = triton.infer("iris", [tensor], model_version="1", outputs=wanted, parameters={"both": True})
        assert [output["name"] for output in found.get_response()["outputs"]] == ["most", "sum"]
        assert found.as_numpy("most").tolist() == [5.0, 5.0]
        assert found.as_numpy("sum").tolist() == [10.5, 10.5]
        with pytest.raises(triton_http.InferenceServerException, match="no output 'other'"):
            triton.infer("iris", [tensor], outputs=[triton_http.InferRequestedOutput("other")])

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    @pytest.mark.parametrize("binary", [True, False])
    def test_tritons_own_client_compresses(self, triton: Any, coding: str, binary: bool) -> None:
        tensor = triton_http.InferInput("X", [1, 4], "FP32")
        tensor.set_data_from_numpy(numpy.array([ROW], dtype="float32"), binary_data=binary)
        found = triton.infer(
            "iris", [tensor], request_compression_algorithm=coding, response_compression_algorithm=coding
        )
        assert found.as_numpy("predictions").tolist() == [10.5]

    def test_tritons_own_client_is_told_what_is_wrong(self, triton: Any) -> None:
        tensor = triton_http.InferInput("X", [1, 4], "FP32")
        tensor.set_data_from_numpy(numpy.array([ROW], dtype="float32"))
        for arguments, word in (
            ({"priority": 1}, "priority is not supported"),
            ({"timeout": 1000}, "x-request-timeout-ms"),
            ({"sequence_id": 7, "sequence_start": True}, "sequence_id is not supported"),
        ):
            with pytest.raises(triton_http.InferenceServerException, match=word):
                triton.infer("iris", [tensor], **arguments)
        tensor.set_shape([1, 5])
        with pytest.raises(triton_http.InferenceServerException, match="asks for 20 bytes, there are 16"):
            triton.infer("iris", [tensor])
        short = triton_http.InferInput("X", [1, 3], "FP64")
        short.set_data_from_numpy(numpy.zeros((1, 3)))
        with pytest.raises(triton_http.InferenceServerException, match="expecting 4 features"):
            triton.infer("iris", [short])
