"""Models that come without code: an MLflow model folder, a joblib or pickle file, an ONNX file.

Looked for when the bundle has no ``model.py`` and no entrypoint is named. Each is wrapped into an object with
``predict`` that also tells its columns, so everything behind it is as for any other model.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from headway.domain.errors import LoadFailed
from headway.server.forests import without_scheduler
from headway.server.linear_models import without_checks
from headway.server.model import InputKind

ONNX_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}


def find_artifact(bundle: Path) -> Path | None:
    """The one file that is the model; None when there is none. Raises ``LoadFailed`` when there are several."""
    if (bundle / "MLmodel").is_file():
        return bundle / "MLmodel"
    found = sorted(p for p in bundle.iterdir() if p.suffix in (".joblib", ".pkl", ".onnx") and p.is_file())
    if len(found) > 1:
        names = ", ".join(p.name for p in found[:5])
        raise LoadFailed(f"more than one model file: {names}", hint="add a model.py that loads the right ones")
    return found[0] if found else None


def load_artifact(path: Path) -> tuple[Any, InputKind]:
    """The object with ``predict``, and what it takes. Raises what the library raises."""
    if path.name == "MLmodel":
        from headway.server.mlflow_model import MlflowModel  # what other models do not need

        model = MlflowModel(path.parent)
        return model, model.kind
    if path.suffix == ".onnx":
        session = OnnxModel(path)
        return session, session.kind
    subject = importlib.import_module("joblib").load(path)
    if not callable(getattr(subject, "predict", None)):
        raise LoadFailed(f"{path.name} holds a {type(subject).__name__}, which has no predict", where=path.name)
    # Fitted on a DataFrame, it wants one again.
    named = getattr(subject, "feature_names_in_", None) is not None
    if named:
        return without_scheduler(subject), InputKind.FRAME
    return without_checks(without_scheduler(subject)), InputKind.ARRAY


class OnnxModel:
    """One output is returned as it is, several as a dict by name. Several inputs are columns of a DataFrame."""

    def __init__(self, path: Path) -> None:
        runtime = importlib.import_module("onnxruntime")
        self._session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self._inputs = [(i.name, self._dtype(i, path)) for i in self._session.get_inputs()]
        self._outputs = [o.name for o in self._session.get_outputs()]
        self.kind = InputKind.ARRAY if len(self._inputs) == 1 else InputKind.FRAME
        if self.kind is InputKind.FRAME:
            self.feature_names_in_ = [name for name, _ in self._inputs]
        else:
            shape = self._session.get_inputs()[0].shape
            if len(shape) == 2 and isinstance(shape[1], int):
                self.n_features_in_ = shape[1]

    @staticmethod
    def _dtype(given: Any, path: Path) -> str:
        dtype = ONNX_TYPES.get(given.type)
        if dtype is None:
            raise LoadFailed(f"input {given.name} is a {given.type}, which is not supported", where=path.name)
        return dtype

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Runs the graph; values are cast to the graph's own types."""
        if self.kind is InputKind.ARRAY:
            ((name, dtype),) = self._inputs
            feed = {name: X.astype(dtype, copy=False)}
        else:
            feed = {name: X[[name]].to_numpy(dtype=dtype) for name, dtype in self._inputs}
        results = self._session.run(None, feed)
        return results[0] if len(results) == 1 else dict(zip(self._outputs, results, strict=True))
