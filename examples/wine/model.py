"""A model that takes named columns: the annotation asks for a DataFrame, and callers send records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import pandas as pd


class Wine:
    """Answers with the probability of each cultivar."""

    def load(self) -> None:
        self._forest: Any = joblib.load(Path(__file__).with_name("model.joblib"))
        # With these, the model server refuses a request that lacks a column, and puts the rest in this order.
        self.feature_names_in_ = self._forest.feature_names_in_

    def predict(self, X: pd.DataFrame) -> pd.DataFrame:
        """One row per wine, one column per cultivar."""
        columns = [f"cultivar_{number}" for number in self._forest.classes_]
        return pd.DataFrame(self._forest.predict_proba(X), columns=columns)
