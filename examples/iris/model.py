"""The published model: four measurements in centimetres in, the name of the species out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np


class Iris:
    """Loaded once per replica, before it takes requests."""

    def load(self) -> None:
        self._classifier: Any = joblib.load(Path(__file__).with_name("model.joblib"))

    def predict(self, X: np.ndarray, features_names: list[str] | None = None) -> Any:
        """One name per row of ``X``."""
        return self._classifier.predict(X)
