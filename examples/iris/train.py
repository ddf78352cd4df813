"""Train a classifier on Fisher's iris measurements and keep fifty flowers back to check it with.

Writes ``model.joblib`` and ``held_out.json`` beside this file. The same packages give the same bytes, so a
second run changes nothing that Headway would see as a new version.
"""

from __future__ import annotations

import json
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
SEED = 7


def main() -> None:
    data = load_iris()
    species = data.target_names[data.target]
    train_rows, test_rows, train_species, test_species = train_test_split(
        data.data, species, test_size=50, stratify=species, random_state=SEED
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(random_state=SEED))
    model.fit(train_rows, train_species)
    joblib.dump(model, HERE / "model.joblib")
    held_out = {
        "columns": data.feature_names,
        "rows": test_rows.tolist(),
        "species": test_species.tolist(),
    }
    (HERE / "held_out.json").write_text(json.dumps(held_out) + "\n")
    print(f"trained on {len(train_rows)} flowers, held back {len(test_rows)}")


if __name__ == "__main__":
    main()
