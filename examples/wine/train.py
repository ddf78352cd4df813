"""Train a classifier on the chemical analysis of 178 Italian wines from three cultivars.

Writes ``model.joblib`` beside this file. The same packages give the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import joblib
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

HERE = Path(__file__).parent
SEED = 7


def main() -> None:
    data = load_wine(as_frame=True)
    train_frame, test_frame, train_kind, test_kind = train_test_split(
        data.data, data.target, test_size=40, stratify=data.target, random_state=SEED
    )
    model = RandomForestClassifier(n_estimators=60, random_state=SEED)
    model.fit(train_frame, train_kind)
    joblib.dump(model, HERE / "model.joblib")
    right = model.score(test_frame, test_kind)
    print(f"trained on {len(train_frame)} wines; of {len(test_frame)} others {right:.0%} right")


if __name__ == "__main__":
    main()
