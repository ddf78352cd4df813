"""Models that MLflow itself saved, loaded and asked: what a signature says is what requests may be."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headway.server.loading import load_model
from headway.server.model import InputKind, LoadedModel
from tests.unit.server.bench import Bench

# MLflow's own imports and calls warn of what it will change.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.xdist_group("mlflow"), pytest.mark.timeout(300)]
MINE = "def times(factor, values):\n    return factor * values\n"


@pytest.fixture(scope="module")
def mlflow() -> Iterator[Any]:
    before = dict(os.environ)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow

    yield mlflow
    os.environ.clear()
    os.environ.update(before)


def save(mlflow: Any, folder: Path, predict: Any, **options: Any) -> LoadedModel:
    """A user's own model around ``predict(input, params)``, saved by MLflow and loaded by the model server."""

    class Own(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return predict(model_input, params or {})

    mlflow.pyfunc.save_model(folder, python_model=Own(), pip_requirements=["mlflow"], **options)
    return load_model(folder, None, stage=lambda stage: None)


def ask(model: LoadedModel, *bodies: Any, path: str = "/predict") -> list[tuple[int, Any]]:
    async def main() -> list[tuple[int, Any]]:
        bench = Bench(model)
        return [await bench.ask(body, path) for body in bodies]

    return asyncio.run(main())


def told(answer: tuple[int, Any]) -> str:
    status, body = answer
    assert status == 400, answer
    return str(body["error"]["message"])


def test_code_of_the_users_own_and_parameters(
    mlflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    package = tmp_path / "own_code_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)

    def predict(frame: Any, params: Any) -> Any:
        from own_code_of_mine import times  # type: ignore[import-not-found]

        return times(params["factor"], frame["a"])

    frame = pd.DataFrame({"a": [1.0, 2.0]})
    signature = mlflow.models.infer_signature(frame, frame["a"], params={"factor": 2.0})
    before = list(sys.path)
    model = save(mlflow, tmp_path / "m", predict, signature=signature, code_paths=[str(package)])
    request.addfinalizer(lambda: sys.path.__setitem__(slice(None), before))
    assert ask(model, [[1], [2]], [{"a": 3}]) == [(200, {"predictions": [2.0, 4.0]}), (200, {"predictions": [6.0]})]
    records = {"dataframe_records": [{"a": 1}]}
    good, odd, unknown = ask(
        model,
        {**records, "params": {"factor": 10}},
        {**records, "params": {"factor": "x"}},
        {**records, "params": {"other": 1}},
        path="/invocations",
    )
    assert good == (200, {"predictions": [10.0]})
    assert "factor" in told(odd)
    assert told(unknown) == "the model has no parameter 'other'"


@pytest.fixture(scope="module")
def typed(mlflow: Any, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model with a column of every type; it answers with what it saw."""
    from mlflow.types import ColSpec, Schema

    def predict(frame: Any, params: Any) -> Any:
        cells = [[f"{name}={value}" for name, value in row.items()] for row in frame.to_dict("records")]
        types = ",".join(str(dtype) for dtype in frame.dtypes)
        return [types + " " + " ".join(row) for row in cells]

    columns = [
        ColSpec("string", "text"),
        ColSpec("datetime", "at"),
        ColSpec("long", "n"),
        ColSpec("boolean", "on"),
        ColSpec("float", "f"),
        ColSpec("integer", "few", required=False),
        ColSpec("binary", "raw", required=False),
    ]
    signature = mlflow.models.ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec("string")]))
    return save(mlflow, tmp_path_factory.mktemp("typed") / "m", predict, signature=signature)


ROW = {"text": "x", "at": "2026-05-01T12:00:00", "n": 5, "on": True, "f": 1}


def test_columns_have_the_types_of_the_signature(typed: LoadedModel) -> None:
    full = {**ROW, "few": 3, "raw": "aGk="}
    answers = ask(typed, [ROW], [full], [{**ROW, "few": None}], [{**ROW, "at": "2026-05-01T14:00:00+02:00"}])
    seen = [body["predictions"][0] for status, body in answers if status == 200]
    plain = seen[0]
    types, _, values = plain.partition(" ")
    assert types.split(",")[1:] == ["datetime64[ns]", "int64", "bool", "float32"]
    assert values == "text=x at=2026-05-01 12:00:00 n=5 on=True f=1.0"
    assert seen[1].endswith("few=3 raw=b'hi'")
    assert ",int32,object " in seen[1]
    assert seen[2] == seen[3] == plain, "an optional column without a value is one that was left out"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"at": "never"}, "this is no instant"),
        ({"raw": "?"}, "this is no base64"),
        ({"n": 5.5}, "Can not safely convert float64 to int64"),
        ({"text": 1}, "text"),
        ({"other": 1}, "unknown columns: 'other'"),
        ({"text": None, "n": None}, ""),
    ],
)
def test_a_value_that_does_not_fit_is_the_callers_fault(typed: LoadedModel, change: dict[str, Any], words: str) -> None:
    (answer,) = ask(typed, [{**ROW, **change}])
    assert words in told(answer)


def test_a_column_that_is_not_optional_must_be_there(typed: LoadedModel) -> None:
    (answer,) = ask(typed, [{name: value for name, value in ROW.items() if name != "n"}])
    assert told(answer) == "columns are missing: 'n'"
    tensors = [
        {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["q"]},
        {"name": "at", "shape": [1], "datatype": "BYTES", "data": ["2026-05-01"]},
        {"name": "n", "shape": [1], "datatype": "INT64", "data": [1]},
        {"name": "on", "shape": [1], "datatype": "BOOL", "data": [True]},
        {"name": "f", "shape": [1], "datatype": "FP32", "data": [1]},
    ]
    good, short = ask(typed, {"inputs": tensors}, {"inputs": tensors[1:]}, path="/v2/models/iris/infer")
    assert good[0] == 200
    assert "text=q at=2026-05-01 00:00:00" in good[1]["outputs"][0]["data"][0]
    assert short[0] == 400


def test_the_signature_is_the_schema_before_and_after_the_first_answer(typed: LoadedModel) -> None:
    async def main() -> None:
        bench = Bench(typed)
        _, before = await bench.ask(b"", "/v2/models/iris")
        await bench.ask([ROW])
        _, after = await bench.ask(b"", "/v2/models/iris")
        assert before["inputs"] == after["inputs"]
        kinds = {one["name"]: one["datatype"] for one in after["inputs"]}
        assert list(kinds) == ["text", "at", "n", "on", "f", "few", "raw"]
        assert list(kinds.values()) == ["BYTES", "BYTES", "INT64", "BOOL", "FP32", "INT32", "BYTES"]
        assert after["outputs"] == [{"name": "predictions", "datatype": "BYTES", "shape": [-1]}]
        _, described = await bench.ask(b"", "/openapi.json")
        record = described["components"]["schemas"]["Rows"]["oneOf"][1]["items"]
        assert record["required"] == ["text", "at", "n", "on", "f"]
        assert record["properties"]["at"] == {"type": "string", "format": "date-time"}
        assert record["properties"]["few"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}

    asyncio.run(main())


def test_one_tensor_is_an_array_of_its_own_type(mlflow: Any, tmp_path: Path) -> None:
    rows = np.ones((2, 3), dtype=np.float32)
    signature = mlflow.models.infer_signature(rows, rows.sum(axis=1))
    model = save(mlflow, tmp_path / "m", lambda x, params: [f"{x.dtype} {x.sum():g}"] * len(x), signature=signature)
    assert model.kind is InputKind.ARRAY
    good, narrow = ask(model, [[1, 2, 3]], [[1, 2]])
    assert good == (200, {"predictions": ["float32 6"]})
    assert "does not match expected shape (-1, 3)" in told(narrow)
    (description,) = ask(model, b"", path="/v2/models/iris")
    assert description[1]["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 3]}]


def test_several_tensors_come_by_name_in_every_format(mlflow: Any, tmp_path: Path) -> None:
    both = {"a": np.ones((2, 3)), "b": np.ones((2, 2), dtype=np.int64)}
    signature = mlflow.models.infer_signature(both, np.ones(2))
    model = save(mlflow, tmp_path / "m", lambda x, params: x["a"].sum(axis=1) + x["b"].sum(axis=1), signature=signature)
    body = {"a": [[1, 2, 3]], "b": [[4, 5]]}
    tensors = [{"name": n, "shape": [1, len(v[0])], "datatype": "INT64", "data": v[0]} for n, v in body.items()]
    assert ask(model, body) == [(200, {"predictions": [15.0]})]
    assert (
        ask(model, {"inputs": body}, {"instances": body}, path="/invocations") == [(200, {"predictions": [15.0]})] * 2
    )
    ((status, inferred),) = ask(model, {"inputs": tensors}, path="/v2/models/iris/infer")
    assert (status, inferred["outputs"][0]["data"]) == (200, [15.0])
    short, odd = ask(model, {"a": [[1, 2, 3]]}, {**body, "b": [["x", "y"]]})
    assert told(short) == "the model takes the tensors a, b"
    assert told(odd) == "this is no tensor of int64"


def test_nested_columns_and_one_without_a_name(mlflow: Any, tmp_path: Path) -> None:
    nested = [{"q": "hi", "tags": ["a", "b"], "o": {"x": 1}}]
    signature = mlflow.models.infer_signature(nested)
    model = save(
        mlflow, tmp_path / "m", lambda x, params: [len(tags) for tags in pd.DataFrame(x)["tags"]], signature=signature
    )
    assert ask(model, nested)[0] == (200, {"predictions": [2]})
    (refused,) = ask(model, [{**nested[0], "o": {"x": "one"}}])
    told(refused)
    from mlflow.types import ColSpec, Schema

    text = mlflow.models.ModelSignature(inputs=Schema([ColSpec("string")]))
    model = save(mlflow, tmp_path / "n", lambda x, params: [cell.upper() for cell in x.iloc[:, 0]], signature=text)
    assert ask(model, [["a"], ["b"]])[0] == (200, {"predictions": ["A", "B"]})
    assert ask(model, {"inputs": ["a", "b"]}, path="/invocations")[0] == (200, {"predictions": ["A", "B"]})
