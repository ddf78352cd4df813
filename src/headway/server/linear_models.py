"""Linear models of scikit-learn, predicted without its checks of the input where those cannot find anything.

``LogisticRegression.predict`` takes some 80 µs for one row, 79 of them to find out what kind of array it was given,
that it has two dimensions, the right width, finite numbers. A request's rows are an array of floats already; width and
finiteness take 3 µs to look at. The product that follows is the same product, so answers are equal to the last bit.
That is tried for each model when it is loaded; where it does not hold (another release of scikit-learn may compute
otherwise), and for whatever else is given, the model predicts as ever, and refuses as ever.

Only a model that is a file by itself is taken over: what a user's own code calls is left alone.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any, Final

log = logging.getLogger("headway.server")

CLASSIFIERS: Final = ("LogisticRegression", "LogisticRegressionCV", "LinearSVC", "SGDClassifier", "Perceptron")
REGRESSORS: Final = ("LinearRegression", "Ridge", "Lasso", "ElasticNet", "LinearSVR")
HOMES: Final = ("sklearn.linear_model.", "sklearn.svm.")
SIZES: Final = (1, 2, 64, 256)
"""Rows at a time, tried when a model is loaded."""


class Linear:
    """Predicts as ``model`` does; all else is the model's own."""

    def __init__(self, model: Any) -> None:
        numpy = importlib.import_module("numpy")
        self._model = model
        self._classes = model.classes_ if type(model).__name__ in CLASSIFIERS else None
        self._weights = model.coef_.T
        self._intercept = model.intercept_
        self._width = int(model.n_features_in_)
        self._array, self._float = numpy.ndarray, numpy.dtype(numpy.float64)
        self._isfinite = numpy.isfinite

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Class or value for each row of ``X``. Raises what the model raises."""
        if (
            type(X) is not self._array
            or X.dtype != self._float
            or X.ndim != 2
            or X.shape[1] != self._width
            or not len(X)
            or not self._isfinite(X).all()
        ):
            return self._model.predict(X)
        scores = X @ self._weights + self._intercept
        if self._classes is None:
            return scores
        if scores.shape[1] == 1:
            return self._classes.take((scores.reshape(-1) > 0).astype(int), axis=0)
        return self._classes.take(scores.argmax(axis=1), axis=0)


def without_checks(subject: Any) -> Any:
    """``subject``, or where it is a linear model that answers the same, a :class:`Linear` around it."""
    kind = type(subject)
    if not kind.__module__.startswith(HOMES) or kind.__name__ not in CLASSIFIERS + REGRESSORS:
        return subject
    try:
        if type(subject.coef_) is not importlib.import_module("numpy").ndarray:  # made sparse
            return subject
        linear = Linear(subject)
        same = all(_equal(subject.predict(rows), linear.predict(rows)) for rows in _rows(linear))
    except Exception as error:  # not fitted, or another release
        log.info("the model predicts with all of scikit-learn's checks: %s: %s", type(error).__name__, error)
        return subject
    return linear if same else subject


def _equal(wanted: Any, found: Any) -> bool:
    numpy = importlib.import_module("numpy")
    return bool(
        type(wanted) is type(found)
        and wanted.dtype == found.dtype
        and wanted.shape == found.shape
        and numpy.array_equal(wanted, found)
    )


def _rows(linear: Linear) -> list[Any]:
    """Rows on both sides of the boundaries, small and large."""
    numpy = importlib.import_module("numpy")
    chance = numpy.random.default_rng(0)
    scale = 10.0 ** chance.integers(-3, 4, (max(SIZES), 1))
    rows = chance.normal(size=(max(SIZES), linear.n_features_in_)) * scale
    return [rows[:size] for size in SIZES]
