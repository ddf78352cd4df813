"""Folders that MLflow saved, and URIs of models that lie elsewhere: all that needs no MLflow."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from headway.client import Client
from headway.client.documents import from_folder, from_source, read_document
from headway.client.mlflow_example import body_of
from headway.client.mlflow_requirements import made
from headway.client.mlflow_source import Fetched, check_uri, fetched, is_uri
from headway.domain.deployments import Source
from headway.domain.errors import InvalidBundle, InvalidInput, InvalidSpec, MissingExtra

MLMODEL = """\
flavors:
  python_function:
    loader_module: mlflow.sklearn
    python_version: 3.11.7
mlflow_version: 3.17.2
saved_input_example_info: {artifact_path: input_example.json, type: dataframe, pandas_orient: split}
"""
PICKLED = MLMODEL.replace("mlflow.sklearn", "mlflow.pyfunc.model")
NEEDS = "mlflow==3.17.2\nscikit-learn==1.9.1\n"


def folder_of(tmp_path: Path, mlmodel: str = MLMODEL, **files: str) -> Path:
    """``requirements_txt="…"`` is the file ``requirements.txt``."""
    folder = tmp_path / "flowers"
    folder.mkdir()
    (folder / "MLmodel").write_text(mlmodel)
    for name, text in files.items():
        (folder / ".".join(name.rsplit("_", 1))).write_text(text)
    return folder


# -- folders -----------------------------------------------------------------------------------------------


def test_an_example_becomes_the_sample_and_the_registration_stays_out(tmp_path: Path) -> None:
    example = json.dumps({"dataframe_split": {"columns": ["a", "b"], "data": [[1, "x"]]}})
    folder = folder_of(
        tmp_path, requirements_txt=NEEDS, serving_input_example_json=example, input_example_json="not this one"
    )
    alone = from_folder(folder).bundle
    (folder / "registered_model_meta").write_text("model_name: flowers\nmodel_version: '3'\n")
    found = from_folder(folder)
    assert found.name == "flowers"
    assert found.bundle.digest == alone.digest, "the same model under another number is the same content"
    assert found.bundle.read("sample.json", 100) == b'[{"a":1,"b":"x"}]'
    archive = io.BytesIO()
    found.bundle.write(archive)
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        names = tar.getnames()
        content = tar.extractfile("sample.json")
        assert content is not None
        assert content.read() == b'[{"a":1,"b":"x"}]'
    assert names == ["MLmodel", "input_example.json", "requirements.txt", "sample.json", "serving_input_example.json"]


def test_what_lies_there_already_is_left_as_it_is(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, requirements_txt=NEEDS, sample_json="[[1]]", input_example_json='{"inputs": [[2]]}')
    found = from_folder(folder)
    assert found.bundle.read("sample.json", 100) == b"[[1]]"
    assert found.bundle.read("requirements.txt", 100) == NEEDS.encode()
    assert found.mlflow is not None
    assert found.mlflow.notes == ()


@pytest.mark.parametrize(
    ("mlmodel", "message", "where"),
    [
        ("flavors: {keras: {}, crate: {}}\n", "function of R", "MLmodel"),
        ("flavors: {keras: {}, tensorflow: {}}\n", "its flavours: keras, tensorflow", "MLmodel"),
        ("run_id: abc\n", "names no flavors", "MLmodel"),
        ("- a list\n", "describes no model", "MLmodel"),
        ("flavors: {\n  x: [\n", "not YAML", "MLmodel:"),
        ("a: \x00\n", "not YAML", "MLmodel"),
    ],
)
def test_what_cannot_be_called_is_refused_before_anything_is_sent(
    tmp_path: Path, mlmodel: str, message: str, where: str
) -> None:
    with pytest.raises(InvalidBundle, match=message) as caught:
        from_folder(folder_of(tmp_path, mlmodel))
    assert str(caught.value.where).startswith(where)


def test_pickled_code_belongs_to_one_minor_version_of_python(tmp_path: Path) -> None:
    prepared = from_folder(folder_of(tmp_path, PICKLED, requirements_txt=NEEDS)).mlflow
    assert prepared is not None
    assert prepared.check_python("3.11.2") is None
    assert prepared.check_python("") is None, "a server that does not say"
    with pytest.raises(InvalidBundle, match=r"pickled by Python 3\.11\.7, and models run with 3\.12\.1") as caught:
        prepared.check_python("3.12.1")
    assert "run Headway with Python 3.11" in str(caught.value.hint)


def test_a_library_reads_its_own_files_under_any_python_and_code_from_a_file_is_read_anew(tmp_path: Path) -> None:
    from_code = PICKLED.replace("    python_version", "    model_code_path: m.py\n    python_version")
    for number, mlmodel in enumerate((MLMODEL, from_code)):
        (tmp_path / str(number)).mkdir()
        prepared = from_folder(folder_of(tmp_path / str(number), mlmodel, requirements_txt=NEEDS)).mlflow
        assert prepared is not None
        assert prepared.check_python("3.12.1") == "saved with Python 3.11.7, runs with Python 3.12.1"


def test_fields_of_the_spec_are_laid_over_the_documents(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        requirements_txt=NEEDS,
        headway_yaml="metadata: {name: iris}\nspec: {server: {timeout: 5s, maxQueue: 9}}\n",
    )
    found = from_folder(folder, None, {"server": {"timeout": "7s"}, "resources": {"memory": "1Gi"}})
    assert found.spec()["spec"] == {"server": {"timeout": "7s", "maxQueue": 9}, "resources": {"memory": "1Gi"}}
    with pytest.raises(InvalidSpec, match="memory"):
        from_folder(folder, None, {"resources": {"memori": "1Gi"}})


# -- examples ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "wanted"),
    [
        ({"dataframe_split": {"columns": ["a"], "data": [[1], [None]]}}, [{"a": 1}, {"a": None}]),
        ({"dataframe_split": {"columns": [0, 1], "data": [[1, 2]]}}, [[1, 2]]),
        ({"dataframe_split": {"columns": ["a"], "data": [[1]]}, "params": {"k": 2}}, [{"a": 1}]),
        ({"dataframe_records": [{"a": 1}]}, [{"a": 1}]),
        ({"inputs": [[1.5, 2]]}, [[1.5, 2]]),
        ({"instances": ["a", "b"]}, [["a"], ["b"]]),
        ({"inputs": {"a": [1, 2], "b": ["x", "y"]}}, [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
        ({"inputs": {"dense": [[1, 2], [3, 4]]}}, [[1, 2], [3, 4]]),
        ({"inputs": {"q": "hi", "k": 3}}, [{"q": "hi", "k": 3}]),
        ({"columns": ["a"], "data": [[1]]}, [{"a": 1}]),  # before MLflow 2.14
        ([[1, 2]], [[1, 2]]),
        ([{"q": "hi", "tags": ["a"]}], [{"q": "hi", "tags": ["a"]}]),
        ({"dataframe_split": {"columns": ["a"], "data": [[float("nan")]]}}, [{"a": None}]),
    ],
)
def test_an_example_as_rows(example: Any, wanted: Any) -> None:
    body = body_of(json.dumps(example).encode(), {}, ())
    assert body is not None
    assert json.loads(body) == wanted


@pytest.mark.parametrize("example", [b"no json", b"{}", b"[]", b'"text"', b'{"inputs": {"a": [1], "b": [1, 2]}}', b"3"])
def test_an_example_of_no_known_form_is_no_sample(example: bytes) -> None:
    assert body_of(example, {}, ()) is None


def test_several_tensors_stay_together() -> None:
    example = {"inputs": {"a": [[1, 2]], "b": [[3]]}}
    body = body_of(json.dumps(example).encode(), {}, ("a", "b"))
    assert body is not None
    assert json.loads(body) == example["inputs"]


# -- requirements ------------------------------------------------------------------------------------------


CONDA = "dependencies:\n- python=3.11.7\n- pip<=24\n- pip:\n  - mlflow==2.9.2\n  - xgboost\nname: mlflow-env\n"


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"requirements.txt": NEEDS}, None),
        ({"requirements.lock": "numpy==2.0.0"}, None),
        ({"requirements.txt": "mlflow-skinny\nnumpy"}, None),
        ({"requirements.txt": "-r more.txt", "more.txt": "MLflow[extras]>=2"}, None),
        ({"conda.yaml": CONDA}, "mlflow==2.9.2\nxgboost\n"),
        ({"python_env.yaml": "dependencies: [mlflow==2.9.2, lightgbm]"}, "mlflow==2.9.2\nlightgbm\n"),
        ({"requirements.txt": "pandas<3"}, "pandas<3\nmlflow-skinny==3.17.2\nnumpy\n"),
        ({"requirements.txt": "# mlflow\n"}, "# mlflow\nmlflow-skinny==3.17.2\nnumpy\npandas\n"),
        ({}, "mlflow-skinny==3.17.2\nnumpy\npandas\n"),
    ],
)
def test_requirements_are_the_models_own_with_what_loads_it(files: dict[str, str], wanted: str | None) -> None:
    found, note = made(lambda path: files.get(path), "3.17.2")
    assert found == wanted
    assert (note is not None) is (wanted is not None and "skinny" in wanted)


def test_a_version_that_was_never_published_is_not_pinned() -> None:
    for version in ("3.18.0.dev0", None):
        assert made(lambda path: None, version)[0] == "mlflow-skinny\nnumpy\npandas\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dependencies: [cudatoolkit=11, {pip: [mlflow]}]", "conda package cudatoolkit=11"),
        ("dependencies: [conda-forge::libfoo]", "conda package conda-forge::libfoo"),
        ("dependencies: 3", "no list"),
        ("[", "not YAML"),
        ("[]", "a mapping is wanted"),
    ],
)
def test_what_conda_alone_could_install_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(InvalidBundle, match=words) as caught:
        made(lambda path: {"conda.yaml": text}.get(path), None)
    assert str(caught.value.where).startswith("conda.yaml")


# -- URIs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri", ["models:/iris/3", "models:/my iris@champion", "models:/iris/latest", "models:/m-0fe038514c", "runs:/a1/m/x"]
)
def test_uris_that_can_be_fetched(uri: str) -> None:
    assert is_uri(uri)
    check_uri(uri)


@pytest.mark.parametrize(
    "uri",
    ["s3://bucket/model", "models:/iris", "models:/", "runs:/a1", "models:/iris/3/sub", "models:/a@b/c", "http://x/y"],
)
def test_uris_that_cannot(uri: str) -> None:
    assert is_uri(uri)
    with pytest.raises(InvalidInput) as caught:
        check_uri(uri)
    assert "models:/NAME@ALIAS" in str(caught.value.hint)


@pytest.mark.parametrize("path", ["iris", "./models:x", "/tmp/models:/iris", "C:iris", "models"])
def test_folders_are_no_uris(path: str) -> None:
    assert not is_uri(path)


def test_without_mlflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtra) as caught, fetched("models:/iris/3", "http://127.0.0.1:1"):
        pass
    assert "headway[mlflow]" in str(caught.value.hint)


def test_a_document_may_name_a_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "iris.yaml").write_text('metadata: {name: iris}\nspec: {model: {path: "models:/iris@champion"}}\n')
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with Client("http://127.0.0.1:1", "t") as client:
        for call in (client.apply, client.diff):
            with pytest.raises(MissingExtra):
                call(tmp_path / "iris.yaml")


def test_what_was_fetched_is_deployed_under_its_name_or_the_documents(tmp_path: Path) -> None:
    source = Source("models:/My Iris@champion", "models:/My Iris/3", "a1", "http://mlflow")
    found = Fetched(folder_of(tmp_path, requirements_txt=NEEDS), source, "My Iris")
    assert (from_source(found, None, None).name, from_source(found, "other", None).name) == ("my-iris", "other")
    document = tmp_path / "d.yaml"
    document.write_text("metadata: {name: blue}\nspec: {resources: {memory: 1Gi}}\n")
    deployable = from_source(found, None, None, read_document(document))
    assert (deployable.name, deployable.source) == ("blue", source)
    assert deployable.spec()["spec"] == {"resources": {"memory": "1Gi"}}
    (found.folder / "headway.yaml").write_text("metadata: {name: logged}\n")
    assert from_source(found, None, None).name == "logged"
