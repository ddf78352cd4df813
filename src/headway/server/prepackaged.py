"""What Seldon's prepackaged servers do with a folder: SKLEARN_SERVER and XGBOOST_SERVER.

MLFLOW_SERVER is an MLflow model as any other (:mod:`headway.server.artifacts`). Source: Seldon Core 1, "Prepackaged
Model Servers".
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final, Literal

from headway.domain.errors import LoadFailed
from headway.server.artifacts import load_artifact

JOBLIB: Final = ("model.joblib", "model.pkl", "model.pickle")
BOOSTER: Final = ("model.bst", "model.json", "model.ubj")


class SklearnServer:
    """``model.joblib``; answers probabilities where the model has them, as Seldon's does."""

    def __init__(
        self, folder: Path, method: Literal["predict_proba", "decision_function", "predict"] = "predict_proba"
    ) -> None:
        if method not in ("predict_proba", "decision_function", "predict"):
            raise LoadFailed(f"method is {method!r}", hint="predict_proba, decision_function or predict")
        self._model, self.kind = load_artifact(_first(folder, JOBLIB))
        asked = getattr(self._model, method, None)
        if asked is None and method == "decision_function":
            raise LoadFailed(f"{type(self._model).__name__} has no decision_function", hint="method: predict")
        self._asked = asked or self._model.predict
        for name in ("feature_names_in_", "n_features_in_"):
            if getattr(self._model, name, None) is not None:
                setattr(self, name, getattr(self._model, name))

    def predict(self, X: Any, names: Any = None) -> Any:  # noqa: N803
        """One row of answers per row."""
        return self._asked(X)


class XgboostServer:
    """``model.bst``: a saved Booster."""

    def __init__(self, folder: Path) -> None:
        path = _first(folder, BOOSTER)
        self._xgboost = importlib.import_module("xgboost")
        self._booster = self._xgboost.Booster(model_file=str(path))

    def predict(self, X: Any, names: Any = None) -> Any:  # noqa: N803
        """One answer per row; columns go by their place, as in Seldon."""
        matrix = self._xgboost.DMatrix(X, feature_names=self._booster.feature_names)
        return self._booster.predict(matrix)


def _first(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise LoadFailed(f"{folder.name} holds no {names[0]}", where=folder.name, hint=f"one of {', '.join(names)}")
