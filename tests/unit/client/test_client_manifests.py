"""Files that describe a model: several documents, SeldonDeployments, and the folders that belong to them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from headway.client.documents import from_folder
from headway.client.manifests import read_manifest
from headway.client.mlflow_source import Fetched
from headway.domain.deployments import Source
from headway.domain.errors import InvalidBundle, InvalidInput, InvalidSpec, Unsupported

GRAPH = """
apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: g}
spec:
  graph:
    name: r
    type: ROUTER
    implementation: RANDOM_ABTEST
    children:
      - {name: a, type: MODEL, path: ./add}
      - {name: b, type: MODEL}
"""
MODEL = "class M:\n    def predict(self, X):\n        return X\n"


def document(name: str, path: str, arm: str) -> str:
    head = f"apiVersion: headway.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {{model: {{path: {path}}}, arm: {{{arm}}}}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("add", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.py").write_text(MODEL)
    return tmp_path


def no_uri(uri: str) -> Fetched:
    raise AssertionError(uri)


def write(folder: Path, text: str, name: str = "doc.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_graph_is_a_folder_for_each_node(folder: Path) -> None:
    (folder / "add" / "requirements.txt").write_text("six\n")
    (found,) = read_manifest(write(folder, GRAPH)).deployables(no_uri)
    assert [entry.file.path for entry in found.bundle.files] == [
        "a/model.py",
        "a/requirements.txt",
        "b/model.py",
        "requirements.txt",
    ]
    packed = io.BytesIO()
    found.bundle.write(packed)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as tar:
        member = tar.extractfile("requirements.txt")
        assert member is not None
        assert member.read() == b"-r a/requirements.txt\n"


def test_where_a_graphs_folders_lie_makes_no_other_version(folder: Path) -> None:
    (found,) = read_manifest(write(folder, GRAPH)).deployables(no_uri)
    (folder / "add").rename(folder / "a")
    (moved,) = read_manifest(write(folder, GRAPH.replace(", path: ./add", ""))).deployables(no_uri)
    assert moved.bundle.digest == found.bundle.digest
    assert moved.document.version_level() == found.document.version_level()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "b" / "model.py").rename(f / "b" / "other.py"), "node b: its folder holds no model.py"),
        (lambda f: (f / "b" / "requirements.lock").write_text("six==1"), "share one environment"),
        (lambda f: (f / "b" / "model.py").unlink(), "holds no file"),
    ],
)
def test_a_folder_that_cannot_be_a_node(folder: Path, spoil: object, said: str) -> None:
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(InvalidBundle, match=said):
        read_manifest(write(folder, GRAPH)).deployables(no_uri)


def test_several_documents_of_one_model(folder: Path) -> None:
    text = "---\n".join([document("m", "add", "weight: 90"), document("m", "b", "weight: 10"), ""])
    found = read_manifest(write(folder, text)).deployables(no_uri)
    assert [one.spec()["spec"]["arm"] for one in found] == [{"weight": 90}, {"weight": 10}]
    text = "---\n".join([document("m", "add", "weight: 90"), document("n", "b", "weight: 10")])
    with pytest.raises(InvalidSpec, match="several models: m, n"):
        read_manifest(write(folder, text))


def test_a_problem_is_found_in_the_document_that_has_it(folder: Path) -> None:
    text = document("m", "add", "weight: 90") + "---\n" + document("m", "b", "wieght: 10")
    with pytest.raises(InvalidSpec) as caught:
        read_manifest(write(folder, text, "two.yaml"))
    assert caught.value.where is not None
    assert caught.value.where.endswith("two.yaml:9:32: spec.arm.wieght")


def test_what_names_no_container_is_said(folder: Path) -> None:
    seldon = write(
        folder,
        "apiVersion: machinelearning.seldon.io/v1\nkind: SeldonDeployment\nmetadata: {name: s}\nspec:\n  predictors:\n"
        "  - name: p\n    graph: {name: c, type: MODEL}\n"
        "    componentSpecs: [{spec: {containers: [{name: c, image: 'o/c:1'}]}}]\n",
    )
    with pytest.raises(Unsupported, match="the image o/c:1 cannot run here"):
        read_manifest(seldon)
    with pytest.raises(InvalidInput, match="no container or image 'd'") as caught:
        read_manifest(seldon, {"c": folder / "add", "d": folder / "b"})
    assert caught.value.hint == "it has c, o/c:1"
    with pytest.raises(InvalidInput, match="there is no folder"):
        read_manifest(seldon, {"c": folder / "nowhere"})
    (found,) = read_manifest(seldon, {"o/c": folder / "add"}).deployables(no_uri)
    assert found.document.spec.model.path == "add"
    with pytest.raises(InvalidInput, match="no container or image 'x'"):
        read_manifest(write(folder, document("m", "add", "weight: 100"), "m.yaml"), {"x": folder / "b"})


def test_seldons_image_builder_knows_the_class(folder: Path) -> None:
    seldon = write(
        folder,
        "apiVersion: machinelearning.seldon.io/v1\nkind: SeldonDeployment\nmetadata: {name: s}\nspec:\n  predictors:\n"
        "  - name: p\n    annotations: {headway.dev/path: ./add}\n    graph: {name: c, type: MODEL}\n",
    )
    assert read_manifest(seldon).documents[0].spec.model.entrypoint is None
    (folder / "add" / "model.py").rename(folder / "add" / "Iris.py")
    (folder / "add" / ".s2i").mkdir()
    (folder / "add" / ".s2i" / "environment").write_text("MODEL_NAME = Iris\nAPI_TYPE=REST\n")
    (found,) = read_manifest(seldon).deployables(no_uri)
    assert found.document.spec.model.entrypoint == "Iris:Iris"


def test_each_document_may_name_a_model_that_lies_elsewhere(folder: Path) -> None:
    asked: list[str] = []

    def fetch(uri: str) -> Fetched:
        asked.append(uri)
        return Fetched(folder / "b", Source(uri, tracking_uri="http://mlflow"), "iris")

    uri = "models:/iris/2"
    text = "---\n".join([document("m", "add", "weight: 90"), document("m", f'"{uri}"', "weight: 10"), ""])
    here, there = read_manifest(write(folder, text)).deployables(fetch)
    assert (asked, here.source, there.source) == ([uri], None, Source(uri, tracking_uri="http://mlflow"))
    assert (there.name, there.spec()["spec"]["arm"]) == ("m", {"weight": 10})

    write(folder / "add", document("m", f'"{uri}"', "weight: 100"), "headway.yaml")
    with pytest.raises(InvalidInput, match="lies elsewhere") as caught:
        from_folder(folder / "add")
    assert "headway apply" in str(caught.value.hint)
