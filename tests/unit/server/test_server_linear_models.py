"""Linear models without needless checks: the same answers to the last bit, the same refusals, or the model itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Perceptron,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.svm import LinearSVC, LinearSVR

from headway.server import linear_models
from headway.server.artifacts import load_artifact
from headway.server.linear_models import CLASSIFIERS, REGRESSORS, Linear, without_checks
from headway.server.model import InputKind


def two_kinds(**_: Any) -> tuple[Any, Any]:
    """The first two kinds of iris."""
    x, y = load_iris(return_X_y=True)
    return x[:100], y[:100]


MODELS = [
    *(
        (kind, data)
        for kind in (
            LogisticRegression(max_iter=500),
            LinearSVC(),
            SGDClassifier(random_state=1),
            Perceptron(random_state=1),
        )
        for data in (load_iris, two_kinds)
    ),
    (LogisticRegressionCV(cv=2, max_iter=500, use_legacy_attributes=False), load_iris),
    *((kind, load_diabetes) for kind in (LinearRegression(), Ridge(), Lasso(), ElasticNet(), LinearSVR())),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model", "data"), MODELS, ids=lambda given: getattr(given, "__name__", type(given).__name__))
def test_answers_are_equal_to_the_last_bit(model: Any, data: Any) -> None:
    x, y = data(return_X_y=True)
    model.fit(x, y)
    fast = without_checks(model)
    assert isinstance(fast, Linear)
    rows = np.random.default_rng(2).choice(x.ravel(), (500, x.shape[1]))
    for given in (rows[:1], rows[:7], rows, np.asfortranarray(rows), rows[::3], rows * 1e300):
        expected, answers = model.predict(given), fast.predict(given)
        assert answers.dtype == expected.dtype
        assert np.array_equal(answers, expected, equal_nan=expected.dtype.kind == "f")
    assert fast.n_features_in_ == x.shape[1]


def test_every_kind_is_tried() -> None:
    assert {type(model).__name__ for model, _ in MODELS} == set(CLASSIFIERS + REGRESSORS)


def test_several_targets_and_classes_that_are_text() -> None:
    x, y = load_diabetes(return_X_y=True)
    several = LinearRegression().fit(x, np.column_stack([y, -y]))
    assert np.array_equal(without_checks(several).predict(x), several.predict(x))
    flowers, kinds = load_iris(return_X_y=True)
    named = LogisticRegression(max_iter=500).fit(flowers, np.array(["setosa", "versi", "virgi"])[kinds])
    fast = without_checks(named)
    assert isinstance(fast, Linear)
    assert fast.predict(flowers).tolist() == named.predict(flowers).tolist()


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((0, 4)),
        np.zeros((2, 3)),
        np.zeros(4),
        np.full((1, 4), np.nan),
        np.array([[1.0, 2.0, np.inf, 4.0]]),
        np.array([["a"] * 4], dtype=object),
        np.array([["1.5"] * 4], dtype=object),
        np.array([[1.0 + 2.0j] * 4]),
        np.ones((2, 4), np.int64),
        np.ones((2, 4), np.float32),
        [[5.0, 3.0, 1.0, 0.0]],
        None,
    ],
)
def test_other_input_fares_as_with_the_model(rows: Any) -> None:
    def fate(model: Any) -> str:
        try:
            return repr(model.predict(rows))
        except (ValueError, TypeError) as error:
            return f"{type(error)} {error}"

    model = LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
    fast = without_checks(model)
    assert isinstance(fast, Linear)
    assert fate(fast) == fate(model)


def test_what_is_no_plain_linear_model_is_left_alone() -> None:
    x, y = load_iris(return_X_y=True)

    class Mine(LogisticRegression):  # type: ignore[misc]
        def predict(self, X: Any) -> Any:  # noqa: N803
            return super().predict(X) + 1

    others = [
        Mine(max_iter=500).fit(x, y),
        LogisticRegression(),
        LogisticRegression(max_iter=500).fit(x, y).sparsify(),
        RidgeClassifier().fit(x, y),
        PoissonRegressor().fit(x, y),
        object(),
    ]
    assert [without_checks(other) for other in others] == others


def test_one_that_would_answer_otherwise_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
    monkeypatch.setattr(linear_models.Linear, "predict", lambda self, rows: np.zeros(len(rows), int))
    assert without_checks(model) is model


def test_only_files_of_models_without_column_names_are_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "model.joblib"
    joblib.dump(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)), file)
    subject, kind = load_artifact(file)
    assert isinstance(subject, Linear)
    assert kind is InputKind.ARRAY
    joblib.dump(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True, as_frame=True)), file)
    subject, kind = load_artifact(file)
    assert type(subject) is LogisticRegression
    assert kind is InputKind.FRAME
