"""What a test asks of MLflow, in a process of its own: importing it takes seconds, so a call does all there is to do.

Run as ``python mlflow_calls.py NAME ARGUMENTS``, the arguments as JSON; the answer is JSON on the last line.
"""

from __future__ import annotations

import io
import json
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import numpy
from mlflow import MlflowClient, set_tracking_uri, sklearn, start_run
from mlflow.models import infer_signature


def log_iris(uri: str, name: str, strengths: list[float]) -> list[dict[str, Any]]:
    """Log and register one version of a classifier of irises per strength; the last one is the champion."""
    from importlib.metadata import version

    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    set_tracking_uri(uri)
    packages = ("mlflow-skinny", "scikit-learn", "skops", "numpy", "pandas")
    needs = [f"{package}=={version(package)}" for package in packages]
    X, y = load_iris(return_X_y=True, as_frame=True)  # noqa: N806
    made = []
    for strength in strengths:
        model = LogisticRegression(C=strength, max_iter=1000).fit(X, y)
        with start_run() as run:
            info = sklearn.log_model(
                model,
                name="classifier",
                signature=infer_signature(X, model.predict(X)),
                input_example=X.head(2),
                registered_model_name=name,
                pip_requirements=needs,
                pyfunc_predict_fn="predict_proba",
            )
        version_ = str(info.registered_model_version)
        MlflowClient().set_registered_model_alias(name, "champion", version_)
        rows = X.iloc[::30]
        answers = numpy.asarray(model.predict_proba(rows)).tolist()
        made.append({"run": run.info.run_id, "version": version_, "rows": rows.to_numpy().tolist(), "answers": answers})
    return made


def set_alias(uri: str, name: str, alias: str, version: str) -> None:
    """Move an alias."""
    set_tracking_uri(uri)
    MlflowClient().set_registered_model_alias(name, alias, version)


def command_line(*calls: list[str]) -> list[dict[str, Any]]:
    """``mlflow ARGUMENTS`` for each of ``calls``, as its own entry point runs it."""
    from mlflow.cli import cli

    answers = []
    for arguments in calls:
        out, err = io.StringIO(), io.StringIO()
        code: Any = 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                cli.main(arguments, prog_name="mlflow")
            except SystemExit as end:
                code = end.code
            except BaseException:
                code = traceback.format_exc()
        answers.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
    return answers


def fetch(*cases: list[str | None]) -> list[dict[str, Any]]:
    """What comes of fetching each ``[uri, tracking URI]``."""
    import os
    import tempfile

    from headway.client.mlflow_source import fetched
    from headway.domain.errors import HeadwayError

    answers: list[dict[str, Any]] = []
    for uri, server in cases:
        try:
            with fetched(str(uri), server) as found:
                source = found.source
                answers.append({"name": found.name, "resolved": source.resolved, "run": source.run_id})
        except HeadwayError as error:
            answers.append(error.to_dict()["error"])
    assert not [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("headway-mlflow-")]
    return answers


if __name__ == "__main__":
    print("\n" + json.dumps(globals()[sys.argv[1]](*json.loads(sys.argv[2]))))
