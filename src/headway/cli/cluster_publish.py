"""Commands with a context that change what is deployed: deploy, apply, delete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from headway.cli.build import Making
from headway.cli.cluster import ask, telling
from headway.cli.output import emit_json, is_json, say
from headway.cli.place import Place
from headway.cli.progress import LiveProgress
from headway.domain.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from headway.api.schemas import DiffAnswer
    from headway.client.documents import Deployable
    from headway.cluster.standing import Standing
    from headway.control.cluster_models import Asked, AskedPolicy, ClusterModels
    from headway.domain.scaling_policy import ScalingPolicy
    from headway.domain.spec import ModelDeployment

    Document = ModelDeployment | ScalingPolicy


def deploy(
    place: Place,
    source: str,
    name: str | None,
    canary: int | None,
    making: Making,
    no_wait: bool,
    timeout_s: float,
) -> None:
    """Publish the folder ``source`` as the next version: the image made of it, or the one that its document names."""
    from headway.client.mlflow_source import is_uri
    from headway.domain.names import check_model_name

    if name is not None:
        check_model_name(name, where="--name")
    if is_uri(source):
        raise Unsupported(
            "a model on an MLflow server is not deployed to a cluster yet", where=source[:200], hint="name a folder"
        )
    if making.push is None:
        document = _documented(Path(source), name, making)
    else:
        document = _imaged(place, Path(source), name, making)
    _tell(_carry_out(place, [document], canary, no_wait, timeout_s), no_wait)


def apply(place: Place, file: Path, no_wait: bool, timeout_s: float) -> None:
    """Make models and policies what the documents of ``file`` say."""
    _tell(_carry_out(place, _read(file), None, no_wait, timeout_s), no_wait)


def diff(place: Place, file: Path) -> DiffAnswer:
    """What :func:`apply` of a model's document would change."""
    from headway.api.schemas import DiffAnswer, DiffLine
    from headway.domain.spec import ModelDeployment

    document, *others = _read(file)
    if others or not isinstance(document, ModelDeployment):
        raise Unsupported("only one document of a model can be compared", where=str(file), hint="a file for each")
    found = ask(_placed(place, [document]), lambda models: models.diff(document))
    changes = [DiffLine(path=path, old=old, new=new) for path, old, new in found.changes]
    return DiffAnswer(exists=found.exists, changes=changes, new_version=found.new_version)


def delete(place: Place, name: str, no_wait: bool, timeout_s: float) -> None:
    """Take a model out of service for good, and wait until nothing of it is left."""
    from headway.control.cluster_rollout import ClusterRollout

    async def run(models: ClusterModels) -> Standing:
        gone = await models.delete(name)
        if not no_wait:
            with LiveProgress(f"{name}: requests in flight finish first", brief=True) as progress:
                await ClusterRollout(models, timeout_s, telling(progress)).wait_gone(gone)
        return gone

    gone = ask(place, run)
    if is_json():
        emit_json({"model": name, "deleted": not no_wait, "namespace": gone.name.namespace})
    else:
        say(f"{name} is {'being deleted' if no_wait else 'gone'}")


def _read(file: Path) -> list[Document]:
    """The documents of ``file``, checked for what a cluster cannot do."""
    from headway.client.documents import text_of
    from headway.cluster.refusals import admitted
    from headway.domain.seldon import is_seldon
    from headway.domain.spec_document import read_each

    documents: list[Document] = []
    for content, where in read_each(text_of(file), str(file)):
        if is_seldon(content):
            raise Unsupported(
                "a SeldonDeployment is not deployed to a cluster yet",
                where=str(file),
                hint="headway convert prints what it is here; headway build makes images of its models",
            )
        documents.append(where.run(admitted, content))
    names = [(one.kind, one.metadata.name) for one in documents]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Unsupported(
            f"several documents of {twice[1]}", where=str(file), hint="apply one after the other: each is a version"
        )
    return documents


def _imaged(place: Place, folder: Path, name: str | None, making: Making) -> ModelDeployment:
    """The document of ``folder`` with the image that is made of it, pinned by its digest.

    An image takes its time: what would be refused afterwards is refused before.
    """
    from headway.client.documents import from_folder
    from headway.cluster.refusals import check_model

    found = from_folder(folder, name)
    pinned = _pinned(found, "example.com/model@sha256:" + "0" * 64)
    check_model(pinned)
    ask(_placed(place, [pinned]), lambda models: models.find(found.name))
    return _pinned(found, making.run(found)["pushed"]["image"])


def _pinned(found: Deployable, image: str) -> ModelDeployment:
    """The document of ``found`` with ``image``. The folder that it names is in the image, so it names none."""
    from headway.domain.spec import parse

    stated = found.spec()
    spec = stated["spec"]
    model = {key: value for key, value in spec.pop("model", {}).items() if key != "path"}
    kubernetes = {**spec.get("kubernetes", {}), "image": image}
    return parse({**stated, "spec": {**spec, **({"model": model} if model else {}), "kubernetes": kubernetes}})


def _documented(folder: Path, name: str | None, making: Making) -> ModelDeployment:
    """The document of ``folder``, which names an image. What else lies there does not count."""
    from headway.client.documents import read_document
    from headway.client.pack import DOCUMENT_NAMES

    replace(making, push=None).refuse("no image is made without --push")
    hint = "--push REGISTRY/NAME makes an image of the folder; or name one as spec.kubernetes.image in headway.yaml"
    present = [folder / one for one in DOCUMENT_NAMES if (folder / one).exists()]
    if not present:
        raise InvalidInput("on Kubernetes a version is an image", where=str(folder), hint=hint)
    document = read_document(present[0])
    if document.spec.kubernetes.image is None:
        where = f"{present[0]}: spec.kubernetes.image"
        raise InvalidInput("on Kubernetes a version is an image", where=where, hint=hint)
    if name is None:
        return document
    return document.model_copy(update={"metadata": document.metadata.model_copy(update={"name": name})})


def _carry_out(
    place: Place, documents: Sequence[Document], canary: int | None, no_wait: bool, timeout_s: float
) -> list[dict[str, Any]]:
    """Ask for all of ``documents``, then follow one after the other; what to tell of each."""
    from headway.control.cluster_rollout import ClusterRollout
    from headway.domain.scaling_policy import ScalingPolicy

    async def run(models: ClusterModels) -> list[dict[str, Any]]:
        asked: list[Asked | AskedPolicy] = []
        for one in documents:
            if isinstance(one, ScalingPolicy):
                asked.append(await models.apply_policy(one))
            else:
                asked.append(await models.deploy(one, canary))
        for order in asked if not no_wait else ():
            with LiveProgress(f"{order.name.name}: on its way") as progress:
                await ClusterRollout(models, timeout_s, telling(progress)).wait(order)
        return [await _answer(models, order) for order in asked]

    return ask(_placed(place, documents), run)


def _placed(place: Place, documents: Sequence[Document]) -> Place:
    """Where ``documents`` say that they belong, if they do."""
    from headway.cluster.render import agreed_namespace

    stated = sorted({one.metadata.namespace for one in documents if one.metadata.namespace is not None})
    if len(stated) > 1:
        raise Unsupported(f"documents of several namespaces: {', '.join(stated)}", hint="a file each")
    return Place(place.context, agreed_namespace(stated[0] if stated else None, place.namespace))


async def _answer(models: ClusterModels, asked: Asked | AskedPolicy) -> dict[str, Any]:
    """As the control API answers a deploy. There is no stream of events to go on from."""
    from headway.api.cluster_views import urls
    from headway.control.cluster_models import Asked

    place = {"namespace": asked.name.namespace, "unchanged": asked.unchanged}
    if not isinstance(asked, Asked):
        return {"policy": asked.name.name, **place}
    standing = await models.get(asked.name.name)
    version = next((one for one in standing.versions if one.name == asked.said.version), None)
    return {
        "model": asked.name.name,
        "version": asked.said.version,
        "digest": "" if version is None else version.digest,
        "image": asked.said.document.spec.kubernetes.image,
        "urls": urls(standing).model_dump(mode="json"),
        "versions": [asked.said.version],
        **place,
    }


def _tell(told: Sequence[dict[str, Any]], no_wait: bool) -> None:
    if is_json():
        emit_json(told[0] if len(told) == 1 else list(told))
        return
    for one in told:
        what = f"{one['model']} {one['version']}" if "model" in one else f"ScalingPolicy {one['policy']}"
        if one["unchanged"]:
            say(f"[bold]{what}[/] is unchanged: the cluster is asked for just this already")
        elif no_wait:
            say(f"[bold]{what}[/] is on its way" + (f": headway status {one['model']}" if "model" in one else ""))
        else:
            say(f"[bold green]{what}[/] {'serves' if 'model' in one else 'is carried out'}")
        if "model" in one:
            say(f"  image       {escape(one['image'])}")
            say(f"  production  {one['urls']['production'] or '-'}")
            if pinned := one["urls"]["pinned"].get(one["version"]):
                say(f"  pinned      {pinned}")
