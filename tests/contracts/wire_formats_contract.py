"""What every door to a model does: each protocol's documented requests, and its own client where there is one.

An adapter gives a client whose base URL is the model's and ``door``, the same as ``host:port/prefix``. The model is
:data:`MODEL`, named iris, version v1.
"""

from __future__ import annotations

import gzip
import json
import struct
from typing import Any

import httpx
import pytest

MODEL = """
import numpy as np
class Sum:
    def predict(self, X, features_names=None):
        if X.dtype == object:
            return np.array([[str(cell).upper() for cell in row] for row in X], dtype=object)
        if X.shape[1] != 4:
            raise ValueError(f"X has {X.shape[1]} features, but Sum is expecting 4 features as input")
        return X.sum(axis=1)
    def tags(self):
        return {"kind": "sum"}
"""
SAMPLE = "[[5.0, 3.5, 1.5, 0.0]]"
ROW = [5.0, 3.5, 1.5, 0.5]
BAD_BODIES = [b"", b"[[1, NaN]]", b"[[1e400]]", b"[[1], [1, 2]]", b"[" * 100_000, b"\xff", b"[[1, 2]]"]
NAMES = ["a", "b", "c", "d"]


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
            {"dataframe_records": [dict(zip(NAMES, ROW, strict=True))] * 2},
            {"instances": [ROW, ROW]},
            {"inputs": [ROW, ROW]},
            {"inputs": {name: [value, value] for name, value in zip(NAMES, ROW, strict=True)}},
        ],
    )
    def test_mlflow_json(self, client: httpx.Client, body: dict[str, Any]) -> None:
        assert client.post("invocations", json=body).json() == {"predictions": [10.5, 10.5]}

    def test_mlflow_csv(self, client: httpx.Client) -> None:
        text = ",".join(NAMES) + "\n" + ",".join(map(str, ROW)) + "\n"
        answer = client.post("invocations", content=text, headers={"content-type": "text/csv"})
        assert answer.json() == {"predictions": [10.5]}

    # -- Seldon --------------------------------------------------------------------------------------

    def test_seldon_messages(self, client: httpx.Client) -> None:
        path = "api/v1.0/predictions"
        meta = {"tags": {"kind": "sum"}}
        array = client.post(path, json={"data": {"names": NAMES, "ndarray": [ROW]}})
        assert array.json() == {"data": {"names": [], "ndarray": [10.5]}, "meta": meta}
        tensor = client.post(path, json={"meta": {"puid": "p"}, "data": {"tensor": {"shape": [1, 4], "values": ROW}}})
        assert tensor.json() == {
            "data": {"names": [], "tensor": {"shape": [1], "values": [10.5]}},
            "meta": {"puid": "p", **meta},
        }

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

    def test_tritons_own_client(self, door: str) -> None:
        http = pytest.importorskip("tritonclient.http")
        numpy = pytest.importorskip("numpy")
        client = http.InferenceServerClient(door)
        try:
            assert client.is_server_live()
            assert client.is_server_ready()
            assert client.is_model_ready("iris")
            assert client.get_model_metadata("iris")["name"] == "iris"
            for dtype in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"):
                array = numpy.array([[1, 2, 3, 4]], dtype=dtype)
                for binary in (True, False) if dtype != "f2" else (True,):
                    tensor = http.InferInput("X", array.shape, numpy_name(array.dtype))
                    tensor.set_data_from_numpy(array, binary_data=binary)
                    wanted = [http.InferRequestedOutput("predictions", binary_data=binary)]
                    answer = client.infer("iris", [tensor], outputs=wanted).as_numpy("predictions")
                    assert answer.tolist() == [10]
            words = http.InferInput("X", [1, 2], "BYTES")
            words.set_data_from_numpy(numpy.array([["a", "b"]], dtype=object))
            assert client.infer("iris", [words]).as_numpy("predictions").tolist() == [[b"A", b"B"]]
            short = http.InferInput("X", [1, 3], "FP64")
            short.set_data_from_numpy(numpy.zeros((1, 3)))
            with pytest.raises(Exception, match="expecting 4 features"):
                client.infer("iris", [short])
        finally:
            client.close()


def numpy_name(dtype: Any) -> str:
    """``float32`` -> ``FP32``."""
    kinds = {"f": "FP", "i": "INT", "u": "UINT"}
    return f"{kinds[dtype.kind]}{dtype.itemsize * 8}"
