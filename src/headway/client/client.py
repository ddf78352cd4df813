"""Client: the control API and the gateway as Python calls; what the command line uses."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx

from headway.api.schemas import (
    Change,
    Deleted,
    DeployAnswer,
    DiffAnswer,
    DiffBody,
    EventView,
    InfoView,
    ModelSummary,
    ModelView,
    PromoteBody,
    TokenCreated,
    TokenView,
    VersionView,
)
from headway.api.schemas_deploy import DeployBody, TrialBody
from headway.client.comparisons import ComparisonCalls
from headway.client.connection import CONTROL, Connection
from headway.client.discovery import discover
from headway.client.jobs import JobCalls
from headway.client.load import LoadCalls
from headway.client.plans import PlanCalls
from headway.client.progress import Progress
from headway.client.query_log import QueryLogCalls
from headway.client.rollout import Rollout, answering, follow, is_live, pages, shifted
from headway.client.scaling import ScalingCalls
from headway.client.wire import lines_of, view_of, views_of
from headway.domain.errors import BundleNotFound, Conflict, InvalidInput
from headway.domain.names import check_model_name, check_token_name, check_version_name

if TYPE_CHECKING:
    # Reading folders and documents needs YAML and the spec's rules; only what deploys pays for importing them.
    from headway.client.documents import Deployable

DEPLOY_TIMEOUT_S: Final = 1200.0
_IN_MEMORY: Final = 16 * 1024 * 1024

Told = Callable[[Progress], None]


class Client(QueryLogCalls, ScalingCalls, LoadCalls, PlanCalls, ComparisonCalls):
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

    def deploy(
        self,
        path: Path,
        *,
        name: str | None = None,
        canary: int | None = None,
        auto: TrialBody | None = None,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        progress: Told | None = None,
    ) -> DeployAnswer:
        """Publish the folder ``path`` as a version of a model, by its ``headway.yaml`` if it has one.

        ``name`` overrides the document's, or the folder's own; ``canary``: percent of the traffic instead of all;
        ``auto``: put on trial. With ``wait`` it returns once the version is live. Raises ``InvalidBundle``,
        ``InvalidSpec``, ``InvalidName``; while waiting the error of the version's failure (``LoadFailed``, …, with
        ``details["log_tail"]``), ``StartTimeout``, or ``Conflict`` when somebody else asks for something else. Not
        waiting any more stops nothing. The same content again is ``unchanged`` and starts nothing.
        """
        if canary is not None and not 1 <= canary <= 99:
            raise InvalidInput(f"{canary} is not a share for a canary", where="canary", hint="1 to 99 percent")
        from headway.client.documents import from_folder

        return self._deploy(lambda: from_folder(path, name), canary, wait, timeout_s, progress, auto)

    def apply(
        self,
        document: Path,
        *,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        progress: Told | None = None,
    ) -> DeployAnswer:
        """Deploy what a document describes; its ``spec.model.path`` counts from where it lies. As :meth:`deploy`."""
        from headway.client.documents import from_document

        return self._deploy(lambda: from_document(document), None, wait, timeout_s, progress)

    def set_queue_bound(
        self,
        name: str,
        most: int,
        *,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        progress: Told | None = None,
    ) -> DeployAnswer:
        """Let at most so many requests wait in a replica (``spec.server.maxQueue``).

        What a model server may do is part of a version, so the files of the one that serves become a new version.
        Raises as :meth:`deploy`, ``Conflict`` while several versions share the traffic.
        """
        serving = [version for version in self.versions(name) if version.weight]
        if len(serving) != 1:
            raise Conflict(
                f"{len(serving)} versions of {name} share the traffic",
                hint=f"put spec.server.maxQueue: {most} into headway.yaml and deploy",
            )
        document = self.spec(name)
        document["spec"]["server"] = {**document["spec"].get("server", {}), "maxQueue": most}
        body = DeployBody(bundle=serving[0].bundle_digest, spec=document, canary=None)
        return self._roll_out(name, body, wait, timeout_s, progress)

    def diff(self, document: Path) -> DiffAnswer:
        """What :meth:`apply` would change. Changes nothing and uploads nothing."""
        from headway.client.documents import from_document

        found = from_document(document)
        body = DiffBody(bundle=found.bundle.digest, spec=found.spec())
        return view_of(DiffAnswer, self._connection.ask("POST", f"{_model(found.name)}/diff", body=body), CONTROL)

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

    # -- deploying, step by step -----------------------------------------------------------------------

    def _deploy(
        self,
        prepare: Callable[[], Deployable],
        canary: int | None,
        wait: bool,
        timeout_s: float,
        progress: Told | None,
        auto: TrialBody | None = None,
    ) -> DeployAnswer:
        from headway.client.pack import readable_size

        tell = progress or _unheard
        tell(Progress("bundle", "running", "reading the files"))
        found = prepare()
        bundle = found.bundle
        known = self._connection.found(f"/v1/bundles/{bundle.digest}")
        if not known:
            self._upload(found, tell)
        count = f"{len(bundle.files)} file" + ("" if len(bundle.files) == 1 else "s")
        summary = f"{count}, {readable_size(bundle.size)}, {bundle.digest[:12]}"
        tell(Progress("bundle", "done", f"{summary}, stored already" if known else summary))
        body = DeployBody(bundle=bundle.digest, spec=found.spec(), canary=canary, auto=auto)
        try:
            return self._roll_out(found.name, body, wait, timeout_s, progress)
        except BundleNotFound:
            if not known:
                raise
            self._upload(found, tell)  # it was removed between the two requests
            return self._roll_out(found.name, body, wait, timeout_s, progress)

    def _roll_out(
        self, name: str, body: DeployBody, wait: bool, timeout_s: float, progress: Told | None
    ) -> DeployAnswer:
        answer = view_of(DeployAnswer, self._connection.ask("POST", f"{_model(name)}/deploy", body=body), CONTROL)
        if wait and not (answer.unchanged and self._there(answer)):
            version = answer.version or None
            Rollout(
                self._connection,
                answer.model,
                cursor=answer.cursor,
                timeout_s=timeout_s,
                version=version,
                progress=progress,
            ).wait()
        return answer

    def _there(self, answer: DeployAnswer) -> bool:
        """Unchanged is also what is still on its way from a deploy before, or coming back after ``headway up``."""
        view = self.get(answer.model)
        return shifted(view) and answering(view) and (not answer.version or is_live(view, answer.version))

    def _upload(self, found: Deployable, tell: Told) -> None:
        from headway.client.pack import chunks, readable_size

        bundle = found.bundle
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as archive:
            tell(Progress("bundle", "running", f"packing {readable_size(bundle.size)}"))
            bundle.write(archive)
            size = archive.tell()
            archive.seek(0)
            tell(Progress("bundle", "running", f"uploading {readable_size(size)}"))
            self._connection.upload(f"/v1/bundles/{bundle.digest}", chunks(archive), size)


def _model(name: str) -> str:
    return f"/v1/models/{check_model_name(name)}"


def _unheard(progress: Progress) -> None:
    """Nobody asked to be told."""


_follow = follow  # within the class, ``follow`` is an argument's name
