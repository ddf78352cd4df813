"""What the server says about its model: Open Inference metadata and the API description."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pandas as pd

from tests.unit.server.bench import Bench

ONE = {"inputs": [{"name": "X", "datatype": "FP64", "shape": [1], "data": [1]}]}


def echo(X: Any) -> Any:  # noqa: N803
    return X


def test_metadata_health_and_versions() -> None:
    async def main() -> None:
        bench = Bench(echo)
        server = (await bench.ask(path="/v2"))[1]
        assert (server["name"], server["extensions"]) == ("headway", ["binary_tensor_data"])
        for path in (
            "/v2/health/live",
            "/v2/health/ready",
            "/v2/models/iris/ready",
            "/v2/models/iris/versions/1/ready",
        ):
            assert (await bench.ask(path=path))[0] == 200
        for path in ("/v2/models/iris", "/v2/models/iris/versions/v1", "/v2/models/iris/versions/1"):
            found = (await bench.ask(path=path))[1]
            assert (found["name"], found["versions"]) == ("iris", ["v1"])
        assert (await bench.ask(ONE, "/v2/models/iris/versions/1/infer"))[0] == 200
        for path in ("/v2/models/other/infer", "/v2/models/iris/versions/2/infer"):
            status, found = await bench.ask(ONE, path)
            assert (status, found["code"]) == (404, "model_not_found")
            assert "model iris, version v1" in found["error"]
        bench.app.drain()
        status, found = await bench.ask(path="/v2/health/ready")
        assert (status, found["code"]) == (503, "not_ready")

    asyncio.run(main())


def test_inputs_and_outputs_are_described_once_they_are_known() -> None:
    async def main() -> None:
        bench = Bench(lambda X: X.sum(axis=1))  # noqa: N803
        before = (await bench.ask(path="/v2/models/iris"))[1]
        assert before["inputs"] == [{"name": "X", "datatype": "FP64", "shape": [-1, -1]}]
        await bench.predict([[1, 2, 3]])
        after = (await bench.ask(path="/v2/models/iris"))[1]
        assert after["inputs"] == [{"name": "X", "datatype": "FP64", "shape": [-1, 3]}]
        assert after["outputs"] == [{"name": "predictions", "datatype": "FP64", "shape": [-1]}]

    asyncio.run(main())


def test_a_model_that_knows_its_features_describes_them() -> None:
    class Named:
        feature_names_in_ = ("a", "b")

        def predict(self, X: pd.DataFrame) -> Any:  # noqa: N803
            return [0] * len(X)

    async def main() -> None:
        bench = Bench(Named())
        declared = (await bench.ask(path="/v2/models/iris"))[1]["inputs"]
        assert [i["name"] for i in declared] == ["a", "b"]
        await bench.predict([{"a": 1, "b": "x"}])
        learned = (await bench.ask(path="/v2/models/iris"))[1]["inputs"]
        assert learned == [
            {"name": "a", "datatype": "INT64", "shape": [-1, 1]},
            {"name": "b", "datatype": "BYTES", "shape": [-1, 1]},
        ]
        schema = (await bench.ask(path="/openapi.json"))[1]["components"]["schemas"]["Rows"]
        assert schema["oneOf"][1]["items"]["required"] == ["a", "b"]

    asyncio.run(main())


def test_the_api_description_names_the_routes_that_there_are() -> None:
    async def main() -> None:
        bench = Bench(echo)
        status, found = await bench.ask(path="/openapi.json")
        assert status == 200
        assert found["openapi"].startswith("3.1")
        served = (await bench.ask(path="/"))[1]["paths"]
        assert set(found["paths"]) <= set(served)
        references = json.dumps(found)
        for name in found["components"]["schemas"]:
            assert f"#/components/schemas/{name}" in references

    asyncio.run(main())
