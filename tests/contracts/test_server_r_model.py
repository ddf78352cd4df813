"""An R model keeps the wire format contract, at a replica and through the gateway.

What R has no types for is told apart here: it knows 32-bit integers and float64 only, and its tables have named columns
with a type each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import ml_dtypes
import numpy
import pytest
import tritonclient.http as triton_http

from tests.contracts.server_doors import gateway_door, replica_door
from tests.contracts.wire_formats_contract import META, NAMES, ROW, SAMPLE, TENSORS, WireFormatsContract, told
from tests.waiting import PortPicker

MODEL = r"""
predict <- function(X, features_names, params = NULL) {
  if (!is.data.frame(X)) return(X)
  if (isTRUE(params$echo)) return(if (ncol(X) == 1L) X[[1L]] else unname(as.matrix(X)))
  if (isTRUE(params$both)) return(list(sum = rowSums(X), most = apply(X, 1L, max)))
  if (is.character(X[[1L]])) return(toupper(as.matrix(X)))
  if (ncol(X) != 4L) stop("X has ", ncol(X), " features, but Sum is expecting 4 features as input")
  rowSums(X)
}
tags <- function() list(kind = "sum")
metrics <- function() list(list(type = "GAUGE", key = "rows", value = 1, tags = list(odd = "a\"b\\c")))
"""
KEPT = {
    "BOOL": "BOOL",
    "UINT8": "INT64",
    "UINT16": "INT64",
    "UINT32": "FP64",
    "INT8": "INT64",
    "INT16": "INT64",
    "INT32": "FP64",
    "FP16": "FP64",
    "FP32": "FP64",
    "FP64": "FP64",
    "BYTES": "BYTES",
}
"""What the values of :data:`TENSORS` come back as; the least INT32 is R's NA, so its column is float64."""


@pytest.fixture(scope="module", params=["replica", "gateway"])
def base(request: pytest.FixtureRequest, free_port: PortPicker, rscript: str) -> Iterator[str]:
    files = {"model.R": MODEL, "sample.json": SAMPLE}
    if request.param == "replica":
        with replica_door(files, free_port()) as address:
            yield address
    else:
        with gateway_door(files, free_port()) as address:
            yield f"{address}/models/iris"


class TestRModel(WireFormatsContract):
    @pytest.fixture
    def door(self, base: str) -> str:
        return base

    @pytest.fixture
    def client(self, door: str) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=f"http://{door}/", timeout=30) as client:
            yield client

    @pytest.mark.parametrize(
        ("body", "rows"),
        [
            ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, None]]}}, [[1.0, None]]),
            ({"instances": ["2024-01-02", "x"]}, ["2024-01-02", "x"]),
            ({"inputs": [1, 2, None]}, [1.0, 2.0, None]),
            ({"dataframe_records": [{"day": "2024-01-02T03:04:05Z", "b": "é"}]}, [["2024-01-02T03:04:05Z", "é"]]),
        ],
    )
    def test_mlflow_missing_values_tensors_scalars_and_dates(
        self, client: httpx.Client, body: dict[str, Any], rows: Any
    ) -> None:
        assert client.post("invocations", json={**body, "params": {"echo": True}}).json() == {"predictions": rows}
        cube = client.post("invocations", json={"instances": [[[1, 2], [3, 4]]]})
        assert (cube.status_code, cube.json()["error"]["message"]) == (400, "column 0 holds a list")

    @pytest.mark.parametrize(
        "text",
        ["a,b,c,d\n5.0,3.5,1.5,0.5\n", '"a","b","c","d"\n"5.0","3.5",1.5,.5\n', "\ufeffa,b,c,d\n5,3.5,15e-1,0.5\n\n"],
    )
    @pytest.mark.parametrize("kind", ["text/csv", "text/csv; charset=utf-8"])
    def test_mlflow_csv(self, client: httpx.Client, text: str, kind: str) -> None:
        super().test_mlflow_csv(client, text, kind)

    @pytest.mark.parametrize("payload", [{"strData": "hello"}, {"jsonData": {"a": [1], "b": "x"}}, {"binData": "AP8="}])
    def test_seldon_other_payloads(self, client: httpx.Client, payload: dict[str, Any]) -> None:
        answer = told(client.post("api/v1.0/predictions", json=payload))
        if "strData" in payload:  # a vector of one element
            assert answer["data"] == {"names": [], "ndarray": ["hello"]}
        elif "jsonData" in payload:
            assert answer == {"jsonData": {"a": [1], "b": ["x"]}, "meta": META}
        else:
            assert answer == {**payload, "meta": META}

    def test_open_inference_json(self, client: httpx.Client) -> None:
        body = {"id": "7", "inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": ROW}]}
        assert client.post("v2/models/iris/infer", json=body).json() == {
            "model_name": "iris",
            "model_version": "v1",
            "id": "7",
            "outputs": [{"name": "predictions", "shape": [1], "datatype": "FP64", "data": [10.5]}],
        }

    def test_open_inference_binary(self, client: httpx.Client) -> None:
        """Binary data is what Triton's client sends below; here several inputs are columns."""
        columns = zip(NAMES, ROW, strict=True)
        body = {"inputs": [{"name": n, "shape": [2], "datatype": "FP64", "data": [v, v]} for n, v in columns]}
        assert client.post("v2/models/iris/infer", json=body).json()["outputs"][0]["data"] == [10.5, 10.5]

    def test_open_inference_metadata(self, client: httpx.Client) -> None:
        model = client.get("v2/models/iris").json()
        assert model["platform"] == "headway_r"
        assert [(i["datatype"], i["shape"]) for i in model["inputs"]] == [("FP64", [-1, 1])] * 4
        assert model["outputs"] == [{"name": "predictions", "datatype": "FP64", "shape": [-1]}]

    def test_tritons_own_client_reads_state_and_metadata(self, triton: Any) -> None:
        assert triton.is_model_ready("iris")
        assert len(triton.get_model_metadata("iris")["inputs"]) == 4

    @pytest.mark.parametrize("datatype", KEPT)
    @pytest.mark.parametrize(("binary_in", "binary_out"), [(True, True), (False, False)])
    def test_tritons_own_client_sends_every_datatype(
        self, triton: Any, datatype: str, binary_in: bool, binary_out: bool
    ) -> None:
        values = [["a", "", "é"]] if datatype == "BYTES" else TENSORS[datatype][1]
        array = numpy.array(values, dtype=object if datatype == "BYTES" else TENSORS[datatype][0])
        tensor = triton_http.InferInput("X", list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary_in)
        wanted = [triton_http.InferRequestedOutput("predictions", binary_data=binary_out)]
        found = triton.infer("iris", [tensor], outputs=wanted, parameters={"echo": True})
        assert found.get_output("predictions")["datatype"] == KEPT[datatype]
        came = found.as_numpy("predictions").tolist()
        assert [[c.decode() if type(c) is bytes else c for c in row] for row in came] == array.tolist()

    @pytest.mark.parametrize(("datatype", "words"), [("INT64", "beyond 2^53"), ("UINT64", "beyond 2^53")])
    def test_what_r_has_no_type_for_is_refused(self, client: httpx.Client, datatype: str, words: str) -> None:
        body = {"inputs": [{"name": "X", "shape": [1, 2], "datatype": datatype, "data": TENSORS[datatype][1][0]}]}
        answer = client.post("v2/models/iris/infer", json=body)
        assert (answer.status_code, words in answer.json()["error"]) == (400, True)

    def test_tritons_own_client_sends_bf16_as_bytes_and_gets_fp32(self, triton: Any) -> None:
        tensor = triton_http.InferInput("X", [1, 2], "BF16")
        tensor.set_data_from_numpy(numpy.array([[1.5, -2.0]], dtype=ml_dtypes.bfloat16))
        found = triton.infer("iris", [tensor], parameters={"echo": True})
        assert (found.get_output("predictions")["datatype"], found.as_numpy("predictions").tolist()) == (
            "FP64",
            [[1.5, -2.0]],
        )

    def test_text_with_a_nul_is_refused(self, client: httpx.Client) -> None:
        answer = client.post("predict", json=[["a\0b", "c"]])
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, "text with a NUL character")
