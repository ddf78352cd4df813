"""Models without code: joblib and pickle files for real, ONNX against a stand-in with its interface."""

from __future__ import annotations

import asyncio
import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headway.domain.errors import LoadFailed
from headway.server.loading import load_model
from headway.server.model import InputKind, LoadedModel
from tests.unit.server.bench import Bench


def load(bundle: Path) -> LoadedModel:
    return load_model(bundle, None, stage=lambda stage: None)


def ask(model: LoadedModel, body: object) -> tuple[int, Any]:
    async def main() -> tuple[int, Any]:
        return await Bench(model).ask(body)

    return asyncio.run(main())


def rows_and_answers(*, named: bool) -> tuple[Any, list[int]]:
    x = np.array([[0.0, 1.0], [1.0, 0.0], [0.1, 0.9], [0.9, 0.1]])
    return pd.DataFrame(x, columns=["a", "b"]) if named else x, [0, 1, 0, 1]


def fitted(*, named: bool) -> LogisticRegression:
    return LogisticRegression().fit(*rows_and_answers(named=named))


@pytest.mark.parametrize("name", ["model.joblib", "classifier.pkl"])
def test_an_estimator_in_a_file_is_a_model(tmp_path: Path, name: str) -> None:
    joblib.dump(fitted(named=False), tmp_path / name)
    model = load(tmp_path)
    assert (model.name, model.kind) == (name, InputKind.ARRAY)
    assert ask(model, [[0.0, 1.0], [1.0, 0.0]]) == (200, {"predictions": [0, 1]})


def test_an_estimator_fitted_on_a_frame_gets_one_with_its_columns_in_order(tmp_path: Path) -> None:
    joblib.dump(fitted(named=True), tmp_path / "model.joblib")
    model = load(tmp_path)
    assert model.kind is InputKind.FRAME
    assert ask(model, [{"b": 0.0, "a": 1.0}]) == (200, {"predictions": [1]})
    assert ask(model, [[1.0, 0.0]]) == (200, {"predictions": [1]})


@pytest.mark.parametrize("named", [False, True])
def test_a_pipeline_passes_nothing_to_its_last_step_but_rows(tmp_path: Path, named: bool) -> None:
    """Its ``predict`` takes ``**params``, which are the last step's: that knows no column names."""
    line = make_pipeline(StandardScaler(), LogisticRegression()).fit(*rows_and_answers(named=named))
    joblib.dump(line, tmp_path / "model.joblib")
    models = [load(tmp_path), *([] if named else [LoadedModel(line, tmp_path, name="an object of one's own")])]
    for model in models:
        assert ask(model, [[0.0, 1.0], [1.0, 0.0]]) == (200, {"predictions": [0, 1]})
        assert ask(model, [{"a": 0.0, "b": 1.0}]) == (200, {"predictions": [0]})


def test_a_width_that_the_estimator_does_not_have_is_always_the_clients_fault(
    tmp_path: Path,
) -> None:
    joblib.dump(fitted(named=False), tmp_path / "model.joblib")
    status, body = ask(load(tmp_path), [[1.0, 2.0, 3.0]])
    assert (status, body["error"]["hint"]) == (400, "the model takes 2 columns")


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(LoadFailed, match="no model in the bundle"):
        load(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"not": "a model"}))
    with pytest.raises(LoadFailed, match="a dict, which has no predict"):
        load(tmp_path)
    (tmp_path / "b.joblib").write_bytes(b"")
    with pytest.raises(LoadFailed, match=r"more than one model file: a\.pkl, b\.joblib"):
        load(tmp_path)
    (tmp_path / "b.joblib").unlink()
    (tmp_path / "a.pkl").write_bytes(b"not a pickle")
    with pytest.raises(LoadFailed) as caught:
        load(tmp_path)
    assert caught.value.message


def test_a_missing_runtime_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(LoadFailed, match="onnxruntime") as caught:
        load(tmp_path)
    assert "requirements.txt" in str(caught.value.hint)


class Session:
    """onnxruntime's interface as far as it is used; doubles its inputs."""

    inputs: tuple[tuple[str, str, list[Any]], ...] = (("X", "tensor(float)", [None, 2]),)
    outputs: tuple[str, ...] = ("y",)

    def __init__(self, path: str, providers: list[str]) -> None:
        assert providers == ["CPUExecutionProvider"]
        self.fed: dict[str, Any] = {}

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name=n, type=t, shape=s) for n, t, s in self.inputs]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self.outputs]

    def run(self, names: None, feed: dict[str, Any]) -> list[Any]:
        type(self).last = feed  # type: ignore[attr-defined]
        return [np.concatenate([np.asarray(v) for v in feed.values()], axis=1) * 2 for _ in self.outputs]


def onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: type[Session]) -> LoadedModel:
    (tmp_path / "m.onnx").write_bytes(b"")
    module = ModuleType("onnxruntime")
    module.InferenceSession = session  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    return load(tmp_path)


def test_an_onnx_graph_gets_its_own_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx(tmp_path, monkeypatch, Session)
    assert ask(model, [[1, 2]]) == (200, {"predictions": [[2.0, 4.0]]})
    assert Session.last["X"].dtype == np.float32  # type: ignore[attr-defined]
    assert model.width() == 2


def test_an_onnx_graph_with_several_inputs_takes_columns_and_several_outputs_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wide(Session):
        inputs = (("a", "tensor(float)", [None, 1]), ("b", "tensor(double)", [None, 1]))
        outputs = ("y", "z")

    model = onnx(tmp_path, monkeypatch, Wide)
    assert ask(model, [{"b": 2, "a": 1}])[1] == {"predictions": {"y": [[2.0, 4.0]], "z": [[2.0, 4.0]]}}


def test_several_named_outputs_are_split_between_the_requests_of_a_batch() -> None:
    calls = []

    def predict(X: Any) -> Any:  # noqa: N803
        calls.append(len(X))
        return {"first": X[:, 0], "row": X.tolist()}

    async def main() -> None:
        bench = Bench(predict)
        found = await asyncio.gather(*(bench.predict([[i, i]] * rows) for i, rows in ((1, 1), (2, 2))))
        assert found == [
            {"first": [1.0], "row": [[1.0, 1.0]]},
            {"first": [2.0, 2.0], "row": [[2.0, 2.0], [2.0, 2.0]]},
        ]
        assert calls == [3]

    asyncio.run(main())


def test_an_onnx_type_that_is_not_supported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sequences(Session):
        inputs = (("X", "seq(tensor(float))", [None]),)

    with pytest.raises(LoadFailed, match="seq"):
        onnx(tmp_path, monkeypatch, Sequences)
