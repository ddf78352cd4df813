"""Deploying over the control API: from a folder or a file to versions that serve."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headway.api.schemas import DeployAnswer, DiffAnswer, DiffBody, InfoView, ModelView, VersionView
from headway.api.schemas_deploy import DeployBody, SourceBody, TrialBody, VersionBody
from headway.client.connection import CONTROL, Connection
from headway.client.progress import Progress
from headway.client.rollout import Rollout, answering, is_live, shifted
from headway.client.wire import view_of, views_of
from headway.domain.errors import BundleNotFound, Conflict, InvalidInput
from headway.domain.names import check_model_name, version_number

if TYPE_CHECKING:
    # Reading folders and documents needs YAML and the spec's rules; only what deploys pays for importing them.
    from headway.client.documents import Deployable
    from headway.client.mlflow_source import Fetched

DEPLOY_TIMEOUT_S: Final = 1200.0
_IN_MEMORY: Final = 16 * 1024 * 1024

Told = Callable[[Progress], None]
Prepared = Callable[[], AbstractContextManager[Sequence["Deployable"]]]
"""What is to be deployed; what was fetched for it is gone when the context ends."""


class DeployCalls:
    """The part of :class:`headway.client.Client` that makes versions."""

    _connection: Connection

    def deploy(
        self,
        path: Path | str,
        *,
        name: str | None = None,
        canary: int | None = None,
        auto: TrialBody | None = None,
        spec: Mapping[str, Any] | None = None,
        tracking_uri: str | None = None,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        progress: Told | None = None,
    ) -> DeployAnswer:
        """Publish the folder ``path`` as a version of a model, by its ``headway.yaml`` if it has one.

        ``path`` may also name a model that an MLflow server holds: ``models:/iris@champion``, ``models:/iris/3``,
        ``runs:/ID/model``. ``tracking_uri`` is that server, by default the one that MLflow itself would ask.

        ``name`` overrides the document's, or the folder's own; ``canary``: percent of the traffic instead of all;
        ``auto``: put on trial. ``spec``: fields of ``spec`` as a document has them, laid over those of the folder's.
        With ``wait`` it returns once the version is live. Raises ``InvalidBundle``, ``InvalidSpec``, ``InvalidName``;
        ``SourceNotFound``, ``SourceFailed``, ``MissingExtra`` for what an MLflow server should hold; while waiting the
        error of the version's failure (``LoadFailed``, …, with ``details["log_tail"]``), ``StartTimeout``, or
        ``Conflict`` when somebody else asks for something else. Not waiting any more stops nothing. The same content
        again is ``unchanged`` and starts nothing.
        """
        if canary is not None and not 1 <= canary <= 99:
            raise InvalidInput(f"{canary} is not a share for a canary", where="canary", hint="1 to 99 percent")
        tell = progress or _unheard
        return self._deploy(
            lambda: _named(str(path), name, spec, tracking_uri, tell), canary, wait, timeout_s, progress, auto
        )

    def apply(
        self,
        document: Path,
        *,
        models: Mapping[str, Path] | None = None,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        progress: Told | None = None,
    ) -> DeployAnswer:
        """Deploy what a file describes; a path in it counts from where it lies, or is a URI. As :meth:`deploy`.

        It holds a ModelDeployment, several of one model that state their ``spec.arm``, or a SeldonDeployment; of that,
        ``models`` are folders with the code of containers, by container or by image.
        """
        tell = progress or _unheard
        return self._deploy(lambda: _described(document, models, tell), None, wait, timeout_s, progress)

    def reconfigure(
        self,
        name: str,
        spec: Mapping[str, Any],
        *,
        canary: int | None = None,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        progress: Told | None = None,
    ) -> DeployAnswer:
        """The files of the newest version in the split under another ``spec``. Raises as :meth:`deploy`."""
        from headway.domain.spec import API_VERSION, KIND

        view = view_of(ModelView, self._connection.ask("GET", _model(name)), CONTROL)
        split = {arm.version for arm in view.live or view.target}
        of_split = [one for one in view.versions if one.name in split] or view.versions
        if not of_split:
            raise InvalidInput(f"{name} has no version yet", hint="deploy one first")
        newest = max(of_split, key=lambda one: version_number(one.name))
        source = None if newest.source is None else SourceBody(**newest.source.model_dump())
        document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": dict(spec)}
        body = DeployBody(bundle=newest.bundle_digest, spec=document, canary=canary, source=source)
        answer = self._order(f"{_model(name)}/deploy", _stated(body))
        return self._followed(answer, wait, timeout_s, progress)

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
        versions = views_of(VersionView, self._connection.ask("GET", f"{_model(name)}/versions"), CONTROL)
        serving = [version for version in versions if version.weight]
        if len(serving) != 1:
            raise Conflict(
                f"{len(serving)} versions of {name} share the traffic",
                hint=f"put spec.server.maxQueue: {most} into headway.yaml and deploy",
            )
        document: dict[str, Any] = dict(self._connection.ask("GET", f"{_model(name)}/spec"))
        spec = {**document["spec"], "server": {**document["spec"].get("server", {}), "maxQueue": most}}
        return self.reconfigure(name, spec, wait=wait, timeout_s=timeout_s, progress=progress)

    def diff(self, document: Path, *, models: Mapping[str, Path] | None = None) -> DiffAnswer:
        """What :meth:`apply` would change, of a file that describes one version. Changes and uploads nothing."""
        with _described(document, models, _unheard) as (found, *others):
            if others:
                raise InvalidInput(
                    f"{document} describes {1 + len(others)} versions, and only one can be compared",
                    hint="headway spec NAME shows what is deployed",
                )
            body = DiffBody(bundle=found.bundle.digest, spec=found.spec())
        return view_of(DiffAnswer, self._connection.ask("POST", f"{_model(found.name)}/diff", body=body), CONTROL)

    def _deploy(
        self,
        prepare: Prepared,
        canary: int | None,
        wait: bool,
        timeout_s: float,
        progress: Told | None,
        auto: TrialBody | None = None,
    ) -> DeployAnswer:
        tell = progress or _unheard
        tell(Progress("bundle", "running", "reading the files"))
        with prepare() as found:
            answer = self._ask(found, canary, auto, tell)
        return self._followed(answer, wait, timeout_s, progress)

    def _ask(self, found: Sequence[Deployable], canary: int | None, auto: TrialBody | None, tell: Told) -> DeployAnswer:
        """Upload what is not there yet, and ask for the versions."""
        from headway.client.pack import readable_size

        notes = self._notes(found)
        known = {one.bundle.digest for one in found if self._connection.found(f"/v1/bundles/{one.bundle.digest}")}
        for one in found:
            if one.bundle.digest not in known:
                self._upload(one, tell)
        files = sum(len(one.bundle.files) for one in found)
        count = f"{files} file" + ("" if files == 1 else "s")
        size = readable_size(sum(one.bundle.size for one in found))
        stored = ["stored already"] if all(one.bundle.digest in known for one in found) else []
        summary = ", ".join([count, size, found[0].bundle.digest[:12], *stored])
        tell(Progress("bundle", "done", "; ".join([summary, *notes])))
        path, body = _order_of(found, canary, auto)
        try:
            return self._order(path, body)
        except BundleNotFound:
            if not known:
                raise
            for one in found:
                self._upload(one, tell)  # it was removed between the two requests
            return self._order(path, body)

    def _notes(self, found: Sequence[Deployable]) -> list[str]:
        """What the owner of MLflow models should know, each once. Raises ``InvalidBundle`` for what cannot run."""
        models = [one.mlflow for one in found if one.mlflow is not None]
        if not models:
            return []
        python = view_of(InfoView, self._connection.ask("GET", "/v1/info"), CONTROL).python
        notes = [note for model in models for note in (*model.notes, model.check_python(python)) if note is not None]
        return list(dict.fromkeys(notes))

    def _order(self, path: str, body: Mapping[str, Any]) -> DeployAnswer:
        return view_of(DeployAnswer, self._connection.ask("POST", path, body=body), CONTROL)

    def _followed(self, answer: DeployAnswer, wait: bool, timeout_s: float, progress: Told | None) -> DeployAnswer:
        if wait and not (answer.unchanged and self._there(answer)):
            version = answer.version or None
            Rollout(
                self._connection,
                answer.model,
                cursor=answer.cursor,
                timeout_s=timeout_s,
                version=version,
                beside=answer.versions,
                progress=progress,
            ).wait()
        return answer

    def _there(self, answer: DeployAnswer) -> bool:
        """Unchanged is also what is still on its way from a deploy before, or coming back after ``headway up``."""
        view = view_of(ModelView, self._connection.ask("GET", _model(answer.model)), CONTROL)
        asked = {answer.version, *answer.versions} - {""}
        return shifted(view) and answering(view) and all(is_live(view, version) for version in asked)

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


@contextmanager
def _named(
    path: str, name: str | None, spec: Mapping[str, Any] | None, tracking_uri: str | None, tell: Told
) -> Iterator[list[Deployable]]:
    """The model in a folder, or at a URI."""
    from headway.client.documents import from_folder, from_source
    from headway.client.mlflow_source import is_uri

    if name is not None:
        check_model_name(name, where="--name")
    if not is_uri(path):
        if tracking_uri is not None:
            raise InvalidInput("a folder comes from no server", where="--tracking-uri", hint="leave it out")
        yield [from_folder(Path(path), name, spec)]
        return
    with ExitStack() as held:
        yield [from_source(_fetched(path, tracking_uri, tell, held), name, spec)]


@contextmanager
def _described(document: Path, models: Mapping[str, Path] | None, tell: Told) -> Iterator[list[Deployable]]:
    """The models that a file describes."""
    from headway.client.manifests import read_manifest

    manifest = read_manifest(document, models)
    with ExitStack() as held:
        yield manifest.deployables(lambda uri: _fetched(uri, None, tell, held))


def _fetched(uri: str, tracking_uri: str | None, tell: Told, held: ExitStack) -> Fetched:
    from headway.client.mlflow_source import fetched

    tell(Progress("bundle", "running", f"fetching {uri}"))
    found = held.enter_context(fetched(uri, tracking_uri))
    tell(Progress("bundle", "running", "reading the files"))
    return found


def _order_of(found: Sequence[Deployable], canary: int | None, auto: TrialBody | None) -> tuple[str, Mapping[str, Any]]:
    """Where to ask for what was ``found``, and with which body."""
    name = _model(found[0].name)
    parts = [
        VersionBody(
            bundle=one.bundle.digest,
            spec=one.spec(),
            source=None if one.source is None else SourceBody(**asdict(one.source)),
        )
        for one in found
    ]
    if len(parts) == 1:
        body = DeployBody(**parts[0].model_dump(), canary=canary, auto=auto)
        return f"{name}/deploy", _stated(body)
    return f"{name}/deploy-together", {"versions": [_stated(one) for one in parts]}


def _stated(body: DeployBody | VersionBody) -> dict[str, Any]:
    """``body`` for the wire. No source is unsaid, not null: a server that does not know the field refuses it."""
    return body.model_dump(mode="json", exclude={"source"} if body.source is None else None)


def _model(name: str) -> str:
    return f"/v1/models/{check_model_name(name)}"


def _unheard(progress: Progress) -> None:
    """Nobody asked to be told."""
