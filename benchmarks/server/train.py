"""Train the models that all servers serve, and note what they answer. Runs in Headway's environment.

Usage: ``train.py FOLDER``; writes ``<model>/model.joblib`` for each model and ``facts.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import joblib
import numpy
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

ROWS = (0, 60, 120)
"""One row of each class."""


def main() -> None:
    folder = Path(sys.argv[1])
    features, labels = load_iris(return_X_y=True)
    rows = features[list(ROWS)]
    facts = {"rows": rows.tolist(), "classes": {}}
    models = {
        "logistic": LogisticRegression(max_iter=1000),
        "forest": RandomForestClassifier(n_estimators=100, random_state=0),
    }
    for name, model in models.items():
        model.fit(features, labels)
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        joblib.dump(model, place / "model.joblib")
        facts["classes"][name] = model.predict(numpy.asarray(rows)).tolist()
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
