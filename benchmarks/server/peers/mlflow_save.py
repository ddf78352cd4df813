"""The joblib model as an MLflow model folder. Usage: ``mlflow_save.py MODEL FOLDER``; runs in MLflow's environment."""
# mypy: ignore-errors

import sys

import joblib
import mlflow

mlflow.sklearn.save_model(joblib.load(sys.argv[1]), sys.argv[2], serialization_format="cloudpickle")
