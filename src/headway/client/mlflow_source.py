"""Models that lie with an MLflow server: from ``models:/…`` or ``runs:/…`` to a folder.

``models:/NAME/VERSION``, ``models:/NAME/latest``, ``models:/NAME/STAGE``, ``models:/NAME@ALIAS``,
``models:/m-…`` (a logged model's id) and ``runs:/RUN_ID/PATH``. An alias, a stage and ``latest`` are looked up once,
and what they stood for is what is fetched and remembered.

The server is the one that MLflow itself would ask (``MLFLOW_TRACKING_URI``, ``mlflow.set_tracking_uri``), or
``tracking_uri``. MLflow's own code speaks to it, so its stores, its log-ins and its settings work.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from headway.domain.deployments import Source
from headway.domain.errors import HeadwayError, InvalidInput, MissingExtra, SourceFailed, SourceNotFound

SCHEMES: Final = ("models", "runs")
FORMS: Final = "models:/NAME/VERSION, models:/NAME@ALIAS, models:/NAME/latest or runs:/RUN_ID/PATH"
_URI = re.compile(r"([a-z][a-z0-9+.-]+):/")
_REGISTERED = re.compile(r"models:/{1,3}(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))")
_LOGGED = re.compile(r"models:/{1,3}(?P<id>m-[0-9a-f]{6,64})")
_RUN = re.compile(r"runs:/{1,3}(?P<id>[^/]+)/(?P<path>.+?)/*")
_REACH_S: Final = 10.0
_GONE: Final = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND", "ENDPOINT_NOT_FOUND")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model's folder, and what is known of where it comes from."""

    folder: Path
    source: Source
    name: str
    """What the model is called there: a deployment without a name of its own is called like it."""


def is_uri(text: str) -> bool:
    """Whether ``text`` names something elsewhere, not a folder."""
    return _URI.match(text) is not None


def check_uri(uri: str) -> None:
    """Raises ``InvalidInput`` unless ``uri`` is of a form that can be fetched."""
    found = _URI.match(uri)
    if found is None or found[1] not in SCHEMES:
        raise InvalidInput(
            f"{uri[:200]} is not a model that can be fetched",
            hint=f"{FORMS}; of anything else download the folder and deploy that: mlflow artifacts download -u URI",
        )
    if not (_REGISTERED.fullmatch(uri) or _LOGGED.fullmatch(uri) or _RUN.fullmatch(uri)):
        raise InvalidInput(f"{uri[:200]} is not complete", hint=FORMS)


@contextmanager
def fetched(uri: str, tracking_uri: str | None = None) -> Iterator[Fetched]:
    """The model at ``uri`` as a folder that is gone afterwards.

    While MLflow works, ``tracking_uri`` is that of the whole process. Raises ``InvalidInput`` for a URI of another form
    or without a server, ``SourceNotFound``, ``SourceFailed``, ``MissingExtra`` where MLflow is not installed.
    """
    check_uri(uri)
    mlflow = _mlflow()
    with _asking(mlflow, tracking_uri) as server, tempfile.TemporaryDirectory(prefix="headway-mlflow-") as scratch:
        with _told(uri, server):
            found, exact = _resolved(mlflow.MlflowClient(), uri)
            folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=exact, dst_path=scratch))
        if not (folder / "MLmodel").is_file():
            raise SourceNotFound(
                f"there is no MLmodel at {exact}",
                hint="name the folder that the model was logged as, such as runs:/ID/model",
            )
        source = Source(uri, None if exact == uri else exact, found.run_id, _shown(server))
        yield Fetched(folder, source, found.name)


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    run_id: str | None


def _mlflow() -> Any:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
        import mlflow.artifacts
    except ImportError:
        raise MissingExtra(
            "models:/ and runs:/ need MLflow",
            hint="pip install 'headway[mlflow]'; a folder with an MLmodel deploys without it",
        ) from None
    return mlflow


@contextmanager
def _asking(mlflow: Any, tracking_uri: str | None) -> Iterator[str]:
    """The server that is asked, for as long as this lasts."""
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    if tracking_uri is None and before is None:
        raise InvalidInput(
            "which MLflow server has the model?",
            where="--tracking-uri",
            hint="set MLFLOW_TRACKING_URI, or --tracking-uri http://HOST:PORT",
        )
    server = tracking_uri or before
    assert server is not None
    _check_reachable(server)
    if tracking_uri is None or tracking_uri == before:
        yield server
        return
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield server
    finally:
        mlflow.set_tracking_uri(before or "")


def _check_reachable(server: str) -> None:
    """MLflow itself would try for minutes."""
    if not server.startswith(("http://", "https://")):
        return
    try:
        httpx.get(server, timeout=_REACH_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceFailed(
            f"the MLflow server at {_shown(server)} does not answer: {str(error)[:200] or type(error).__name__}",
            hint="is it running? check MLFLOW_TRACKING_URI or --tracking-uri",
        ) from None


@contextmanager
def _told(uri: str, server: str) -> Iterator[None]:
    """MLflow's refusals, and whatever else its stores raise, as errors of the tree."""
    try:
        yield
    except HeadwayError:
        raise
    except Exception as error:  # every store and every cloud has exceptions of its own
        message = " ".join(str(error).split())[:500] or type(error).__name__
        if getattr(error, "error_code", None) in _GONE or isinstance(error, FileNotFoundError):
            raise SourceNotFound(f"{uri}: {message}", hint=f"asked was {_shown(server)}") from None
        raise SourceFailed(f"{uri} cannot be fetched from {_shown(server)}: {message}") from None


def _resolved(client: Any, uri: str) -> tuple[_Found, str]:
    """What ``uri`` stands for, and the URI that will always stand for it."""
    if run := _RUN.fullmatch(uri):
        client.get_run(run["id"])  # a run that is not there is told as such, not as a missing file
        return _Found(run["path"].rpartition("/")[2], run["id"]), uri
    if logged := _LOGGED.fullmatch(uri):
        model = client.get_logged_model(logged["id"])
        return _Found(model.name, model.source_run_id), uri
    parts = _REGISTERED.fullmatch(uri)
    assert parts is not None
    name = parts["name"]
    version = _version(client, name, parts["alias"], parts["version"])
    return _Found(name, version.run_id or None), f"models:/{name}/{version.version}"


def _version(client: Any, name: str, alias: str | None, wanted: str | None) -> Any:
    if alias is not None:
        return client.get_model_version_by_alias(name, alias)
    assert wanted is not None
    if wanted.isdigit():
        return client.get_model_version(name, wanted)
    client.get_registered_model(name)
    quote = '"' if "'" in name else "'"
    found = client.search_model_versions(f"name={quote}{name}{quote}")
    if wanted.lower() != "latest":
        found = [one for one in found if str(getattr(one, "current_stage", "")).lower() == wanted.lower()]
    if not found:
        raise SourceNotFound(
            f"model {name} has no version {'at all' if wanted.lower() == 'latest' else f'in stage {wanted}'}",
            hint=f"models:/{name}/VERSION, or an alias: models:/{name}@ALIAS",
        )
    return max(found, key=lambda one: int(one.version))


def _shown(server: str) -> str:
    """Without user name and password."""
    return re.sub(r"(?<=://)[^/\s@]+@", "", server)
