"""Random forests of scikit-learn, predicted tree after tree without a scheduler between them.

``RandomForestClassifier.predict`` hands every tree to joblib, even where one thread runs them all: some 40 µs for each
tree whose own work is 4 µs. The sum over trees is the same sum in the same order here, so answers are equal to the
last bit. That is tried for each forest when it is loaded; where it does not hold (another release of scikit-learn
may compute otherwise), the forest predicts as ever.

Only a forest that is a model file by itself is taken over: what a user's own code calls is left alone.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

log = logging.getLogger("headway.server")

ROWS = 256
"""Tried when a forest is loaded."""
LARGE = 1e30


class Forest:
    """Predicts as ``forest`` does; all else is the forest's own."""

    def __init__(self, forest: Any) -> None:
        self._forest = forest
        self._trees = [tree.tree_ for tree in forest.estimators_]
        self._classes = getattr(forest, "classes_", None)
        self._numpy = importlib.import_module("numpy")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._forest, name)

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Class or mean for each row of ``X``; the forest's own checks of ``X`` come first."""
        rows = self._forest._validate_X_predict(X)
        numpy, trees = self._numpy, self._trees
        if self._classes is None:
            mean = numpy.zeros(rows.shape[0], dtype=numpy.float64)
            for tree in trees:
                mean += tree.predict(rows)[:, 0]
            mean /= len(trees)
            return mean
        shares = numpy.zeros((rows.shape[0], len(self._classes)), dtype=numpy.float64)
        for tree in trees:
            shares += tree.predict(rows)[:, : len(self._classes)]
        shares /= len(trees)
        return self._classes.take(numpy.argmax(shares, axis=1), axis=0)


def without_scheduler(subject: Any) -> Any:
    """``subject``, or where it is a forest that answers the same, a :class:`Forest` around it."""
    sklearn = sys.modules.get("sklearn.ensemble")
    if sklearn is None or type(subject) not in (
        sklearn.RandomForestClassifier,
        sklearn.RandomForestRegressor,
        sklearn.ExtraTreesClassifier,
        sklearn.ExtraTreesRegressor,
    ):
        return subject
    try:
        if subject.n_jobs not in (None, 1) or subject.n_outputs_ != 1 or subject.verbose:
            return subject
        forest = Forest(subject)
        rows = _rows(subject)
        same = bool(importlib.import_module("numpy").array_equal(subject.predict(rows), forest.predict(rows)))
    except Exception as error:  # private names of another release
        log.info("the forest predicts through joblib: %s: %s", type(error).__name__, error)
        return subject
    return forest if same else subject


def _rows(forest: Any) -> Any:
    """Rows around the forest's thresholds, on them and beyond."""
    numpy = importlib.import_module("numpy")
    chance = numpy.random.default_rng(0)
    width = forest.n_features_in_
    rows = numpy.zeros((ROWS, width))
    known: list[list[float]] = [[0.0] for _ in range(width)]
    for tree in forest.estimators_[:50]:
        for feature, threshold in zip(tree.tree_.feature, tree.tree_.threshold, strict=True):
            if feature >= 0 and -LARGE < threshold < LARGE:  # infinite where only missing values are told apart
                known[feature].append(threshold)
    for column, thresholds in enumerate(known):
        values = numpy.array(thresholds)
        spread = numpy.ptp(values) or 1.0
        rows[:, column] = chance.choice(values, ROWS) + chance.choice([0.0, 0.0, 0.1, -0.1, 1.0, -1.0], ROWS) * spread
    names = getattr(forest, "feature_names_in_", None)
    return rows if names is None else importlib.import_module("pandas").DataFrame(rows, columns=names)
