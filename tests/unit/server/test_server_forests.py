"""Forests without a scheduler: the same answers to the last bit, or the forest itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)

from headway.server import forests
from headway.server.forests import Forest, without_scheduler

FORESTS = [
    (RandomForestClassifier, load_iris),
    (ExtraTreesClassifier, load_wine),
    (RandomForestRegressor, load_diabetes),
    (ExtraTreesRegressor, load_diabetes),
]


@pytest.mark.parametrize(("kind", "data"), FORESTS)
def test_answers_are_equal_to_the_last_bit(kind: Any, data: Any) -> None:
    x, y = data(return_X_y=True)
    forest = kind(30, random_state=1).fit(x, y)
    fast = without_scheduler(forest)
    assert isinstance(fast, Forest)
    rows = np.random.default_rng(2).choice(x.ravel(), (500, x.shape[1]))
    for size in (1, 7, 500):
        expected = forest.predict(rows[:size])
        answers = fast.predict(rows[:size])
        assert answers.dtype == expected.dtype
        assert np.array_equal(answers, expected)
    assert fast.n_features_in_ == x.shape[1]


def test_classes_that_are_text_and_rows_that_are_a_frame() -> None:
    x, y = load_iris(return_X_y=True, as_frame=True)
    forest = RandomForestClassifier(10, random_state=1).fit(x, y.map(dict(enumerate(["setosa", "versi", "virgi"]))))
    fast = without_scheduler(forest)
    assert isinstance(fast, Forest)
    assert list(fast.predict(x)) == list(forest.predict(x))
    assert list(fast.feature_names_in_) == list(x.columns)


def test_missing_values_go_where_the_forest_sends_them() -> None:
    x, y = load_iris(return_X_y=True)
    x[::3, 1] = np.nan
    forest = RandomForestClassifier(10, random_state=1).fit(x, y)
    fast = without_scheduler(forest)
    assert isinstance(fast, Forest)
    assert np.array_equal(fast.predict(x), forest.predict(x))


@pytest.mark.parametrize("rows", [[[1.0]], [[np.nan] * 4], [[np.inf] * 4], [["a"] * 4], [1.0, 2.0]])
def test_odd_rows_fare_as_with_the_forest(rows: Any) -> None:
    def fate(model: Any) -> str:
        try:
            return repr(model.predict(np.array(rows, dtype=object)))
        except ValueError as error:
            return str(error)

    forest = RandomForestClassifier(5, random_state=1).fit(*load_iris(return_X_y=True))
    assert fate(without_scheduler(forest)) == fate(forest)


def test_what_is_no_plain_forest_is_left_alone() -> None:
    x, y = load_iris(return_X_y=True)

    class Mine(RandomForestClassifier):  # type: ignore[misc]
        pass

    others = [
        RandomForestClassifier(5, n_jobs=2).fit(x, y),
        RandomForestClassifier(5, verbose=1).fit(x, y),
        RandomForestClassifier(5).fit(x, np.column_stack([y, y])),
        GradientBoostingClassifier(n_estimators=2).fit(x, y),
        Mine(5).fit(x, y),
        RandomForestClassifier(5),
        object(),
    ]
    assert [without_scheduler(other) for other in others] == others


def test_a_forest_that_would_answer_otherwise_predicts_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    forest = RandomForestClassifier(5, random_state=1).fit(*load_iris(return_X_y=True))
    monkeypatch.setattr(forests.Forest, "predict", lambda self, rows: np.zeros(len(rows)))
    assert without_scheduler(forest) is forest


def test_the_tried_rows_reach_every_class() -> None:
    x, y = load_iris(return_X_y=True)
    forest = RandomForestClassifier(10, random_state=1).fit(x, y)
    assert set(forest.predict(forests._rows(forest))) == {0, 1, 2}
    frame = pd.DataFrame(x, columns=list("abcd"))
    assert list(forests._rows(RandomForestClassifier(3).fit(frame, y)).columns) == list("abcd")
