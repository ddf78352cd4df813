"""The deployment target ``headway`` of MLflow: ``mlflow deployments create -t headway …``.

MLflow finds this module by the entry point ``mlflow.deployments`` and wants of it one class, :func:`run_local` and
:func:`target_help`. A *deployment* of MLflow is a *model* of Headway; updating one makes its next version. It is a
client of the REST API like the command line, and what Headway refuses arrives as an ``MlflowException`` with the hint.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

import click
from mlflow.deployments import BaseDeploymentClient, PredictionsResponse
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes

from headway.api.schemas import ModelView
from headway.client import Client, Progress
from headway.client.mlflow_folder import PYFUNC
from headway.domain import errors
from headway.domain.errors import HeadwayError, InvalidInput, ModelNotFound, Unsupported
from headway.domain.names import check_model_name
from headway.domain.spec_document import read_as

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger("mlflow.headway")  # below MLflow's own, which shows it where it shows others

HELP: Final = """\
Headway publishes a model as a versioned REST API.

Target URI
  headway                       the Headway of this machine (HEADWAY_HOME), or the one that HEADWAY_URL names
  headway://HOST:PORT           the control API at http://HOST:PORT
  headway:https://HOST[:PORT]   the control API at that URL
  The token is that of HEADWAY_TOKEN; on this machine none is needed.

Model URI
  models:/NAME/VERSION, models:/NAME@ALIAS, models:/NAME/latest, runs:/RUN_ID/PATH, or a folder with an MLmodel.
  The server is MLflow's own tracking URI (MLFLOW_TRACKING_URI).

Config, each as -C name=value
  canary=10                     update: give the new version that percentage of the traffic, not all of it
  replicas=2                    how many replicas; short for scaling.minReplicas
  wait=false                    return at once instead of when it serves
  FIELD.FIELD=VALUE             a field of the spec in headway.yaml, such as resources.memory=1Gi, server.timeout=10s,
                                'scaling.triggers=[{type: cpu, target: 80%}]'; the value is YAML
  cancel_jobs=true              delete: cancel the model's open jobs, too

An update without a model URI changes the config alone. What an update leaves open stays as it is.
"""
_CODES: Final[tuple[tuple[type[HeadwayError], int], ...]] = (
    (errors.NotFound, codes.RESOURCE_DOES_NOT_EXIST),
    (errors.Conflict, codes.RESOURCE_CONFLICT),
    (errors.Unauthenticated, codes.UNAUTHENTICATED),
    (errors.Forbidden, codes.PERMISSION_DENIED),
    (errors.ControlUnreachable, codes.TEMPORARILY_UNAVAILABLE),
    (errors.InvalidInput, codes.INVALID_PARAMETER_VALUE),
    (errors.DeployFailed, codes.INVALID_STATE),
)
_BODIES: Final = ("inputs", "instances", "dataframe_split", "dataframe_records")
_TRUTHS: Final = ("wait", "cancel_jobs")


class DeploymentRefused(MlflowException, click.ClickException):  # type: ignore[misc]
    """An error of Headway as MLflow's; its command line shows the message alone, without a traceback."""

    def __init__(self, error: HeadwayError) -> None:
        where = f" ({error.where})" if error.where else ""
        hint = f"\nhint: {error.hint}" if error.hint else ""
        code = next((code for kind, code in _CODES if isinstance(error, kind)), codes.INTERNAL_ERROR)
        click.ClickException.__init__(self, error.message)
        MlflowException.__init__(self, f"{error.message}{where}{hint}", error_code=code)


def _told(call: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(call)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except HeadwayError as error:
            raise DeploymentRefused(error) from None

    return told


class HeadwayDeploymentClient(BaseDeploymentClient):  # type: ignore[misc]
    """Models of the Headway at ``target_uri`` as MLflow's deployments. See :func:`target_help`."""

    @_told
    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)
        self._url = _url(target_uri)

    @_told
    def create_deployment(
        self, name: str, model_uri: str, flavor: str | None = None, config: Any = None, endpoint: str | None = None
    ) -> dict[str, Any]:
        """Publish the model as ``name``; returns once it serves, unless ``wait`` is false."""
        wish = _wish(config, flavor, endpoint)
        with Client(self._url) as client:
            if any(found.name == check_model_name(name, where="name") for found in client.list()):
                raise errors.Conflict(f"there is a deployment {name} already", hint="update it, or delete it first")
            if wish.canary is not None:
                raise InvalidInput("the first version gets all traffic", where="canary", hint="leave it out")
            client.deploy(model_uri, name=name, spec=wish.spec, wait=wish.wait, progress=_tell)
            return _described(client.get(name))

    @_told
    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: str | None = None,
        config: Any = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Publish the next version; without ``model_uri`` it is the same model under another config."""
        wish = _wish(config, flavor, endpoint)
        with Client(self._url) as client:
            spec = _merged(_kept(client.spec(name)["spec"], model_uri is not None), wish.spec)
            if model_uri is not None:
                client.deploy(model_uri, name=name, canary=wish.canary, spec=spec, wait=wish.wait, progress=_tell)
            elif wish.spec:
                client.reconfigure(name, spec, canary=wish.canary, wait=wish.wait, progress=_tell)
            else:
                raise InvalidInput("there is nothing to update", hint="give a model URI (-m) or config (-C name=value)")
            return _described(client.get(name))

    @_told
    def delete_deployment(self, name: str, config: Any = None, endpoint: str | None = None) -> None:
        """Take it out of service with all its versions. One that is not there is gone already."""
        wish = _wish(config, None, endpoint)
        with Client(self._url) as client:
            try:
                cursor = client.delete(name, cancel_jobs=wish.cancel_jobs)
            except ModelNotFound:
                return
            if wish.wait:
                client.wait_deleted(name, cursor=cursor)

    @_told
    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """Every model, by name."""
        _no_endpoint(endpoint)
        with Client(self._url) as client:
            found = client.list()
        shown = ("name", "state", "ready_replicas", "url")
        return [{"flavor": PYFUNC, **{field: getattr(one, field) for field in shown}} for one in found]

    @_told
    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """One model: state, traffic, replicas, URLs, and where each version of the split came from."""
        _no_endpoint(endpoint)
        with Client(self._url) as client:
            return _described(client.get(name))

    @_told
    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> PredictionsResponse:
        """Ask through the gateway.

        ``inputs``: a DataFrame, an ndarray, a list, a dict of columns or tensors, or a whole body of ``/invocations``
        as a dict (``{"inputs": …, "params": …}``) or as JSON text.
        """
        _no_endpoint(endpoint)
        if deployment_name is None:
            raise InvalidInput("which deployment?", where="deployment_name", hint="give its name (--name)")
        body = _body(inputs)
        with Client(self._url) as client:
            return PredictionsResponse.from_json(client.predict(deployment_name, body, path="invocations"))

    @_told
    def predict_stream(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Refused."""
        raise Unsupported("Headway does not answer in a stream", hint="use predict, or a job for what takes long")

    @_told
    def explain(self, deployment_name: str | None = None, df: Any = None, endpoint: str | None = None) -> Any:
        """Refused."""
        raise Unsupported("Headway does not explain predictions", hint="log a model whose predictions are explanations")

    @_told
    def list_endpoints(self) -> list[dict[str, Any]]:
        """None: each deployment has an address of its own."""
        return []

    @_told
    def create_endpoint(self, name: str, config: Any = None) -> dict[str, Any]:
        """Refused."""
        _refuse_endpoints()

    @_told
    def update_endpoint(self, endpoint: str, config: Any = None) -> None:
        """Refused."""
        _refuse_endpoints()

    @_told
    def delete_endpoint(self, endpoint: str) -> None:
        """Refused."""
        _refuse_endpoints()

    @_told
    def get_endpoint(self, endpoint: str) -> dict[str, Any]:
        """Refused."""
        _refuse_endpoints()


def run_local(name: str, model_uri: str, flavor: str | None = None, config: Any = None) -> None:
    """Deploy to the Headway that runs on this machine, and say where it answers."""
    found = HeadwayDeploymentClient("headway").create_deployment(name, model_uri, flavor, config)
    click.echo(f"{name} serves at {found['url']}/invocations")


def target_help() -> str:
    """What ``mlflow deployments help -t headway`` prints."""
    return HELP


# -- from MLflow's words to Headway's, and back ---------------------------------------------------------


class _Wish:
    """A config: fields of the spec, and what is no field."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.spec: dict[str, Any] = {}
        self.canary: int | None = None
        self.wait = True
        self.cancel_jobs = False
        for name, given in config.items():
            value = _value(given, name) if isinstance(given, str) else given
            if name in _TRUTHS:
                if not isinstance(value, bool):
                    raise InvalidInput(f"{given!r:.60} is neither true nor false", where=name)
                setattr(self, name, value)
            elif name == "canary":
                if isinstance(value, bool) or not isinstance(value, int):
                    raise InvalidInput(f"{given!r:.60} is no percentage", where=name, hint="a whole number, 1 to 99")
                self.canary = value
            else:
                for key in reversed(("scaling.minReplicas" if name == "replicas" else name).split(".")):
                    value = {key: value}
                self.spec = _merged(self.spec, value)


def _value(text: str, name: str) -> Any:
    """``80%`` or ``[{type: cpu}]`` as in a document."""
    found = read_as(lambda data: data, f"value: {text}", f"-C {name}")
    if not isinstance(found, dict) or list(found) != ["value"]:
        raise InvalidInput(f"{text[:60]!r} is not one value", where=name)
    return found["value"]


def _wish(config: Any, flavor: str | None, endpoint: str | None) -> _Wish:
    _no_endpoint(endpoint)
    if flavor not in (None, PYFUNC):
        raise Unsupported(
            f"Headway calls every model by its flavour {PYFUNC}, not by {flavor}", where="flavor", hint="leave it out"
        )
    if config is not None and not isinstance(config, Mapping):
        raise InvalidInput("config is no mapping", where="config")
    return _Wish(config or {})


def _merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}


def _kept(spec: Mapping[str, Any], other_model: bool) -> dict[str, Any]:
    """What an update keeps: all but the traffic, which the new version takes, and what tells of the files' code."""
    left = ("traffic", "model", "graph") if other_model else ("traffic",)
    return {key: value for key, value in spec.items() if key not in left}


def _url(target_uri: str) -> str | None:
    """``headway`` -> None: found as the command line finds it."""
    rest = target_uri.removeprefix("headway").removeprefix(":")
    if not rest.strip("/"):
        return None
    if rest.startswith("//"):
        return f"http:{rest}"
    if rest.startswith(("http://", "https://")):
        return rest
    raise InvalidInput(f"{target_uri!r:.200} is no target", hint="headway, headway://HOST:PORT or headway:https://HOST")


def _described(view: ModelView) -> dict[str, Any]:
    sources = {one.name: one.source for one in view.versions if one.weight is not None}
    return {
        "name": view.name,
        "flavor": PYFUNC,
        "state": view.state,
        "message": view.message,
        "traffic": {arm.version: arm.weight for arm in view.live},
        "models": {name: source.resolved or source.uri for name, source in sources.items() if source is not None},
        "replicas": view.replicas,
        "ready_replicas": view.ready_replicas,
        "url": view.urls.production,
    }


def _body(inputs: Any) -> bytes:
    if isinstance(inputs, str):
        return inputs.encode()
    if hasattr(inputs, "to_frame") and not hasattr(inputs, "columns"):
        inputs = inputs.to_frame()
    if hasattr(inputs, "columns") and hasattr(inputs, "to_json"):
        split = inputs.to_json(orient="split", index=False, date_format="iso", date_unit="ns")
        return f'{{"dataframe_split":{split}}}'.encode()
    whole = isinstance(inputs, Mapping) and any(key in inputs for key in _BODIES)
    if not whole and not (isinstance(inputs, Mapping | list) or hasattr(inputs, "tolist")):
        raise InvalidInput(
            f"{type(inputs).__name__} is no input that can be sent", hint="a DataFrame, an ndarray, a list or a dict"
        )
    try:
        return json.dumps(inputs if whole else {"inputs": inputs}, default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the input is no JSON: {error}") from None


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON")


def _no_endpoint(endpoint: str | None) -> None:
    if endpoint is not None:
        _refuse_endpoints()


def _refuse_endpoints() -> NoReturn:
    raise Unsupported("Headway has no endpoints: each deployment has an address of its own", where="endpoint")


def _tell(progress: Progress) -> None:
    if progress.state == "done":
        log.info("%s: %s", progress.stage, progress.text)
