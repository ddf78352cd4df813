"""From folders and documents to what is deployed; and where the control API is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headway.client.discovery import discover
from headway.client.documents import from_document, from_folder
from headway.domain.errors import (
    ControlUnreachable,
    HeadwayError,
    InvalidBundle,
    InvalidInput,
    InvalidName,
    InvalidSpec,
    Unauthenticated,
)
from tests.unit.client.control import model_folder

IRIS = "metadata: {name: iris}\n"


# -- folders and documents -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "name"), [("iris", "iris"), ("Iris_Model.v2", "iris-model-v2"), ("-a b-", "a-b"), ("7", "7")]
)
def test_without_a_document_the_folder_gives_the_name(tmp_path: Path, folder: str, name: str) -> None:
    found = from_folder(model_folder(tmp_path, folder))
    assert found.name == name
    assert found.spec()["spec"] == {}


@pytest.mark.parametrize("folder", ["___", "x" * 41, "模型"])
def test_a_folder_whose_name_cannot_be_used_needs_one(tmp_path: Path, folder: str) -> None:
    path = model_folder(tmp_path, folder)
    with pytest.raises(InvalidName) as raised:
        from_folder(path)
    assert "--name" in (raised.value.hint or "")
    assert from_folder(path, "iris").name == "iris"


def test_a_name_that_is_none_is_refused_before_the_folder_is_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidName, match="--name"):
        from_folder(tmp_path / "gone", "Iris!")


@pytest.mark.parametrize("document", ["headway_yaml", "headway_yml"])
def test_the_folders_document_is_used_and_a_given_name_wins(tmp_path: Path, document: str) -> None:
    folder = model_folder(tmp_path, "elsewhere", **{document: IRIS + "spec: {env: [{name: A, value: b}]}\n"})
    assert from_folder(folder).spec() == {
        "metadata": {"name": "iris"},
        "spec": {"env": [{"name": "A", "value": "b"}]},
    }
    assert from_folder(folder, "other").spec()["metadata"] == {"name": "other"}


def test_two_documents_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="both"):
        from_folder(model_folder(tmp_path, headway_yaml=IRIS, headway_yml=IRIS))


def test_the_path_counts_from_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder(tmp_path)
    (tmp_path / "deploy").mkdir()
    document = tmp_path / "deploy" / "production.yaml"
    document.write_text(IRIS + "spec: {model: {path: ../iris}}\n")
    monkeypatch.chdir(tmp_path / "deploy")

    assert from_document(Path("production.yaml")).bundle.digest == from_folder(folder).bundle.digest


def test_only_what_is_stated_is_sent(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, headway_yaml=IRIS + "spec: {scaling: {}, server: {timeout: 5s}}\n")
    assert from_folder(folder).spec()["spec"] == {"scaling": {}, "server": {"timeout": "5s"}}


@pytest.mark.parametrize(
    ("spec", "files", "fault"),
    [
        ("", [], "holds no model.py, no model.R and no model file"),
        ("", ["a.joblib", "b.onnx"], "holds several model files: a.joblib, b.onnx"),
        ("spec: {model: {entrypoint: 'model:Iris'}}", [], "holds no model.py"),
        ("spec: {model: {entrypoint: 'my.code:Iris'}}", ["model.py", "my.py"], "holds no my/code.py"),
        ("spec: {model: {sample: sample.json}}", ["model.py"], "holds no sample.json"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(tmp_path: Path, spec: str, files: list[str], fault: str) -> None:
    for name in ["other.txt", *files]:
        (tmp_path / name).touch()
    (tmp_path / "headway.yaml").write_text(IRIS + spec)
    with pytest.raises(InvalidBundle, match=fault):
        from_folder(tmp_path)


def test_a_model_in_r_needs_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "model.R").write_text("predict <- function(X) X")
    (tmp_path / "headway.yaml").write_text(IRIS)
    assert from_folder(tmp_path).bundle.holds("model.R")


@pytest.mark.parametrize("file", ["my/code.py", "my/code/__init__.py"])
def test_another_entrypoint_needs_no_model_py(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    (tmp_path / "headway.yaml").write_text(IRIS + "spec: {model: {entrypoint: 'my.code:Iris'}}\n")
    assert from_folder(tmp_path).bundle.holds(file)


@pytest.mark.parametrize("file", ["model.joblib", "iris.pkl", "net.onnx"])
def test_a_model_file_needs_no_code(tmp_path: Path, file: str) -> None:
    (tmp_path / file).touch()
    assert from_folder(tmp_path, "iris").bundle.holds(file)


@pytest.mark.parametrize(
    ("content", "fault"),
    [(None, "cannot be read"), (b"\xff\xfe\x00", "not UTF-8"), (b"#" * 1_048_577, "larger than 1 MiB")],
)
def test_a_document_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, fault: str) -> None:
    path = tmp_path / "production.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidSpec, match=fault) as raised:
        from_document(path)
    assert raised.value.where == str(path)


# -- discovery -----------------------------------------------------------------------------------------

RUNNING = {
    "pid": os.getpid(),
    "control_url": "http://127.0.0.1:9421",
    "gateway_url": "http://10.1.2.3:9420",
    "version": "0",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path))
    (tmp_path / "control.json").write_text(json.dumps(RUNNING))
    (tmp_path / "admin.token").write_text("hw_home\n")
    return tmp_path


def test_what_runs_on_the_home_is_found(home: Path) -> None:
    place = discover(None, None, None, None)
    assert (place.control_url, place.token, place.gateway_url) == (
        "http://127.0.0.1:9421",
        "hw_home",
        "http://10.1.2.3:9420",
    )
    assert "hw_home" not in repr(place)


def test_arguments_win_over_variables_and_variables_over_the_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWAY_URL", "https://variable.example/")
    monkeypatch.setenv("HEADWAY_TOKEN", "hw_variable")
    place = discover(None, None, None, None)
    assert (place.control_url, place.token, place.gateway_url) == ("https://variable.example", "hw_variable", None)
    place = discover("http://argument.example", "hw_argument", None, "http://gateway.example/")
    assert (place.control_url, place.token, place.gateway_url) == (
        "http://argument.example",
        "hw_argument",
        "http://gateway.example",
    )


def test_empty_variables_are_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWAY_URL", "")
    monkeypatch.setenv("HEADWAY_TOKEN", "")
    assert discover(None, None, None, None).token == "hw_home"


def test_a_given_home_wins(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ControlUnreachable):
        discover(None, None, tmp_path / "another", None)


def test_the_homes_own_token_is_shown_to_this_machine_only(home: Path) -> None:
    assert discover("http://elsewhere.example:8421", None, None, None).token is None
    assert discover("http://127.0.0.1:1", None, None, None).token == "hw_home"
    assert discover(None, None, None, None).token_for_gateway
    assert discover(None, None, None, "http://127.0.0.1:1").token_for_gateway
    assert not discover(None, None, None, "http://elsewhere.example").token_for_gateway
    assert discover(None, "hw_mine", None, "http://elsewhere.example").token_for_gateway


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"control_url": ""}', "\x00"])
def test_nothing_running_says_how_to_start_it(home: Path, content: str | None) -> None:
    (home / "control.json").unlink()
    if content is not None:
        (home / "control.json").write_text(content)
    with pytest.raises(ControlUnreachable) as raised:
        discover(None, None, None, None)
    assert raised.value.hint == "headway up --detach"


def test_a_control_plane_that_crashed_is_not_talked_to(home: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (home / "control.json").write_text(json.dumps({**RUNNING, "pid": ended.pid}))
    with pytest.raises(ControlUnreachable, match="does not run any more"):
        discover(None, None, None, None)


@pytest.mark.parametrize("url", ["localhost:8421", "ftp://x", "http://", "http://[::", "x" * 70_000])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="is not a URL"):
        discover(url, "hw_x", None, None)


@pytest.mark.parametrize("token", ["a b", "a\nb", "tökén"])
def test_what_is_no_token_is_refused_without_repeating_it(token: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        discover("http://x.example", token, None, None)
    assert token not in str(raised.value)


def test_a_setting_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWAY_DATA_PORT", "many")
    with pytest.raises(HeadwayError, match="HEADWAY_DATA_PORT"):
        discover("http://x.example", "hw_x", None, None)
