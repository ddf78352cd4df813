"""Client: the control API and the gateway as Python calls; what the command line uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from headway.api.schemas import (
    Change,
    Deleted,
    EventView,
    InfoView,
    ModelSummary,
    ModelView,
    PromoteBody,
    TokenCreated,
    TokenView,
    VersionView,
)
from headway.client.comparisons import ComparisonCalls
from headway.client.connection import CONTROL, Connection
from headway.client.deploys import DEPLOY_TIMEOUT_S, DeployCalls, Told
from headway.client.discovery import discover
from headway.client.jobs import JobCalls
from headway.client.load import LoadCalls
from headway.client.plans import PlanCalls
from headway.client.query_log import QueryLogCalls
from headway.client.rollout import Rollout, follow, pages
from headway.client.scaling import ScalingCalls
from headway.client.wire import lines_of, view_of, views_of
from headway.domain.errors import InvalidInput
from headway.domain.names import check_model_name, check_token_name, check_version_name


class Client(DeployCalls, QueryLogCalls, ScalingCalls, LoadCalls, PlanCalls, ComparisonCalls):
    """One Headway, found by ``url``, ``HEADWAY_URL`` or what runs on this machine's home directory.

    ``token``: default ``HEADWAY_TOKEN``, else the home's own admin token (shown to this machine only). ``home``:
    default ``HEADWAY_HOME``, else ``~/.headway``. ``gateway_url``: where ``predict`` goes; default: asked for.
    ``transport``: an httpx transport to send requests through instead of the network.

    Every method raises the error of ``headway.domain.errors`` that the other side tells of, with its ``message``,
    ``where``, ``hint`` and ``details``; ``ControlUnreachable`` when nothing answers. Use it as a context manager or
    ``close`` it; not from several threads at once.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        home: Path | None = None,
        gateway_url: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._connection = Connection(lambda: discover(url, token, home, gateway_url), transport)
        self._gateway_url = self._connection.place.gateway_url
        self._jobs = JobCalls(self._connection, self._gateway)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a second call changes nothing."""
        self._connection.close()

    # -- what is -----------------------------------------------------------------------------------

    def info(self) -> InfoView:
        """The installation: version, addresses, gateway, how much runs."""
        return view_of(InfoView, self._connection.ask("GET", "/v1/info"), CONTROL)

    def get(self, name: str) -> ModelView:
        """One model in full. Raises ``ModelNotFound``."""
        return view_of(ModelView, self._connection.ask("GET", _model(name)), CONTROL)

    def versions(self, name: str) -> Sequence[VersionView]:
        """Every version of a model, oldest first. Raises ``ModelNotFound``."""
        return views_of(VersionView, self._connection.ask("GET", f"{_model(name)}/versions"), CONTROL)

    def spec(self, name: str) -> dict[str, Any]:
        """The ModelDeployment document of what is deployed; it can be applied again. Raises ``ModelNotFound``."""
        return dict(self._connection.ask("GET", f"{_model(name)}/spec"))

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of ModelDeployment."""
        return dict(self._connection.ask("GET", "/v1/schema"))

    # -- what is wished ----------------------------------------------------------------------------

    def set_traffic(self, name: str, weights: Mapping[str, int]) -> Change:
        """Split production traffic: percent by version, 100 together. Raises ``InvalidTraffic``."""
        body = {"weights": dict(weights)}
        return view_of(Change, self._connection.ask("PUT", f"{_model(name)}/traffic", body=body), CONTROL)

    def promote(self, name: str, version: str | None = None) -> Change:
        """All traffic to ``version``, by default to the newest of the split. Raises ``Conflict`` without a canary."""
        body = PromoteBody(version=version)
        return view_of(Change, self._connection.ask("POST", f"{_model(name)}/promote", body=body), CONTROL)

    def rollback(self, name: str) -> Change:
        """Back to the split before; calls off a rollout under way. Raises ``Conflict`` when there is none."""
        return view_of(Change, self._connection.ask("POST", f"{_model(name)}/rollback"), CONTROL)

    def scale(self, name: str, n: int) -> Change:
        """Wish for ``n`` replicas of each version in the split; where triggers scale it, they may change that again."""
        return view_of(Change, self._connection.ask("PUT", f"{_model(name)}/scale", body={"replicas": n}), CONTROL)

    def delete(self, name: str, *, cancel_jobs: bool = False) -> int:
        """Take a model away; the cursor after which events tell how it goes. See :meth:`wait_deleted`.

        Raises ``Conflict`` while it has open jobs, unless they are to be canceled.
        """
        params = {"cancel_jobs": cancel_jobs or None}
        return view_of(Deleted, self._connection.ask("DELETE", _model(name), params=params), CONTROL).cursor

    def wait_until(
        self, name: str, *, cursor: int, timeout_s: float = DEPLOY_TIMEOUT_S, progress: Told | None = None
    ) -> ModelView:
        """Wait until what was asked for at ``cursor`` is so: wished split live, all its replicas ready.

        Raises the error of a version that fails meanwhile, or ``StartTimeout``.
        """
        check_model_name(name)
        return Rollout(self._connection, name, cursor=cursor, timeout_s=timeout_s, progress=progress).wait()

    def wait_deleted(self, name: str, *, cursor: int, timeout_s: float = 300.0) -> None:
        """Wait until a model that is being deleted is gone. Raises ``StartTimeout``."""
        check_model_name(name)
        Rollout(self._connection, name, cursor=cursor, timeout_s=timeout_s).wait_deleted()

    # -- calling a model -----------------------------------------------------------------------------

    def predict(
        self,
        name: str,
        body: bytes,
        *,
        version: str | None = None,
        content_type: str = "application/json",
        path: str = "predict",
    ) -> bytes:
        """What a model answers to ``body`` through the gateway; ``version`` pins one, else traffic is split.

        Raises the error that gateway or model server tells of (``InvalidRequest``, ``ModelFailed``, ``Overloaded``,
        …), ``GatewayFailed`` when nothing answers. It is sent once.
        """
        where = f"/models/{check_model_name(name)}"
        if version is not None:
            where += f"/versions/{check_version_name(version)}"
        if any(part in ("", ".", "..") for part in path.strip("/").split("/")):
            raise InvalidInput(f"{path[:80]!r} is not a path of a model", where="path", hint="such as predict")
        where += "/" + quote(path.strip("/"), safe="/:@!$&'()*+,;=-._~")
        return self._connection.predict(self._gateway(), where, body, content_type)

    @property
    def jobs(self) -> JobCalls:
        """Jobs: predictions that are stored first and carried out later."""
        return self._jobs

    def _gateway(self) -> str:
        if self._gateway_url is None:
            self._gateway_url = self.info().gateway_url.rstrip("/")
        return self._gateway_url

    # -- what happens --------------------------------------------------------------------------------

    def logs(
        self,
        name: str,
        *,
        replica: str | None = None,
        version: str | None = None,
        tail: int | None = None,
        follow: bool = False,
    ) -> Iterator[str]:
        """Lines that a model's replicas print, led by ``REPLICA | `` when there are several.

        ``tail``: begin so many lines before the end. ``follow``: go on with what is printed from now on. Raises
        ``ModelNotFound``, ``ReplicaNotFound``, ``VersionNotFound``.
        """
        params = {"replica": replica, "version": version, "tail": tail, "follow": follow or None}
        with self._connection.stream(f"{_model(name)}/logs", params=params, silence_s=None) as chunks:
            yield from lines_of(chunks)

    def events(self, *, after: int = 0, model: str | None = None, follow: bool = False) -> Iterator[EventView]:
        """Events above the cursor ``after``, in order; with ``follow`` for ever, resumed when the connection breaks."""
        if model is not None:
            check_model_name(model)
        read = _follow if follow else pages
        return read(self._connection, after=after, model=model)

    # -- tokens and the installation -----------------------------------------------------------------

    def tokens(self) -> Sequence[TokenView]:
        """Every token, revoked and expired ones too; needs an admin token."""
        return views_of(TokenView, self._connection.ask("GET", "/v1/tokens"), CONTROL)

    def create_token(
        self,
        name: str,
        *,
        scope: str = "predict",
        models: Sequence[str] | None = None,
        expires_in_s: float | None = None,
    ) -> TokenCreated:
        """A new token; its secret is in this answer and nowhere else. Raises ``Conflict`` for a name in use."""
        covered = None if models is None else [*models]
        body = {"name": name, "scope": scope, "models": covered, "expires_in_s": expires_in_s}
        return view_of(TokenCreated, self._connection.ask("POST", "/v1/tokens", body=body), CONTROL)

    def revoke_token(self, name: str) -> TokenView:
        """Make a token void. Raises ``TokenNotFound``."""
        path = f"/v1/tokens/{check_token_name(name)}"
        return view_of(TokenView, self._connection.ask("DELETE", path), CONTROL)

    def shutdown(self) -> None:
        """Ask the whole installation to stop; it does so once this is answered. Needs an admin token."""
        self._connection.ask("POST", "/v1/shutdown")

    def list(self) -> Sequence[ModelSummary]:
        """Every model that the token covers."""
        return views_of(ModelSummary, self._connection.ask("GET", "/v1/models"), CONTROL)


def _model(name: str) -> str:
    return f"/v1/models/{check_model_name(name)}"


_follow = follow  # within the class, ``follow`` is an argument's name
