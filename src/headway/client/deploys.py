"""Deploying over the control API: from a folder or a file to versions that serve."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headway.api.schemas import (
    DeployAnswer,
    DeployTogetherBody,
    DiffAnswer,
    DiffBody,
    ModelView,
    VersionBody,
    VersionView,
)
from headway.api.schemas_deploy import DeployBody, TrialBody
from headway.client.connection import CONTROL, Connection
from headway.client.progress import Progress
from headway.client.rollout import Rollout, answering, is_live, shifted
from headway.client.wire import view_of, views_of
from headway.domain.errors import BundleNotFound, Conflict, InvalidInput
from headway.domain.names import check_model_name

if TYPE_CHECKING:
    # Reading folders and documents needs YAML and the spec's rules; only what deploys pays for importing them.
    from headway.client.documents import Deployable

DEPLOY_TIMEOUT_S: Final = 1200.0
_IN_MEMORY: Final = 16 * 1024 * 1024

Told = Callable[[Progress], None]
Order = DeployBody | DeployTogetherBody


class DeployCalls:
    """The part of :class:`headway.client.Client` that makes versions."""

    _connection: Connection

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

        return self._deploy(lambda: [from_folder(path, name)], canary, wait, timeout_s, progress, auto)

    def apply(
        self,
        document: Path,
        *,
        models: Mapping[str, Path] | None = None,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        progress: Told | None = None,
    ) -> DeployAnswer:
        """Deploy what a file describes; paths in it count from where it lies. As :meth:`deploy`.

        It holds a ModelDeployment, several of one model that state their ``spec.arm``, or a SeldonDeployment; of that,
        ``models`` are folders with the code of containers, by container or by image.
        """
        from headway.client.manifests import read_manifest

        return self._deploy(lambda: read_manifest(document, models).deployables(), None, wait, timeout_s, progress)

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
        document["spec"]["server"] = {**document["spec"].get("server", {}), "maxQueue": most}
        body = DeployBody(bundle=serving[0].bundle_digest, spec=document, canary=None)
        return self._roll_out(f"{_model(name)}/deploy", body, wait, timeout_s, progress)

    def diff(self, document: Path, *, models: Mapping[str, Path] | None = None) -> DiffAnswer:
        """What :meth:`apply` would change, of a file that describes one version. Changes and uploads nothing."""
        from headway.client.manifests import read_manifest

        found, *others = read_manifest(document, models).deployables()
        if others:
            raise InvalidInput(
                f"{document} describes {1 + len(others)} versions, and only one can be compared",
                hint="headway spec NAME shows what is deployed",
            )
        body = DiffBody(bundle=found.bundle.digest, spec=found.spec())
        return view_of(DiffAnswer, self._connection.ask("POST", f"{_model(found.name)}/diff", body=body), CONTROL)

    def _deploy(
        self,
        prepare: Callable[[], Sequence[Deployable]],
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
        known = {one.bundle.digest for one in found if self._connection.found(f"/v1/bundles/{one.bundle.digest}")}
        for one in found:
            if one.bundle.digest not in known:
                self._upload(one, tell)
        files = sum(len(one.bundle.files) for one in found)
        count = f"{files} file" + ("" if files == 1 else "s")
        size = readable_size(sum(one.bundle.size for one in found))
        summary = f"{count}, {size}, {found[0].bundle.digest[:12]}"
        stored = all(one.bundle.digest in known for one in found)
        tell(Progress("bundle", "done", f"{summary}, stored already" if stored else summary))
        path, body = _order(found, canary, auto)
        try:
            return self._roll_out(path, body, wait, timeout_s, progress)
        except BundleNotFound:
            if not known:
                raise
            for one in found:
                self._upload(one, tell)  # it was removed between the two requests
            return self._roll_out(path, body, wait, timeout_s, progress)

    def _roll_out(self, path: str, body: Order, wait: bool, timeout_s: float, progress: Told | None) -> DeployAnswer:
        answer = view_of(DeployAnswer, self._connection.ask("POST", path, body=body), CONTROL)
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


def _order(found: Sequence[Deployable], canary: int | None, auto: TrialBody | None) -> tuple[str, Order]:
    """Where to ask for what was ``found``, and with which body."""
    name = _model(found[0].name)
    if len(found) == 1:
        body = DeployBody(bundle=found[0].bundle.digest, spec=found[0].spec(), canary=canary, auto=auto)
        return f"{name}/deploy", body
    versions = [VersionBody(bundle=one.bundle.digest, spec=one.spec()) for one in found]
    return f"{name}/deploy-together", DeployTogetherBody(versions=versions)


def _model(name: str) -> str:
    return f"/v1/models/{check_model_name(name)}"


def _unheard(progress: Progress) -> None:
    """Nobody asked to be told."""
