"""``headway kube``: objects on standard output, refusals with their line, nothing of a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from headway.cli.app import run
from headway.domain.errors import InvalidInput, Unsupported

SPEC = """apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: iris}
spec:
  kubernetes: {image: "iris:1"}
"""


def test_objects_are_printed_as_yaml_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "headway.yaml"
    file.write_text(SPEC)
    assert run(["kube", "render", "-f", str(file), "-n", "models"]) == 0
    text = capsys.readouterr().out
    assert "&id" not in text
    assert run(["kube", "render", "-f", str(file), "-n", "models", "-o", "json"]) == 0
    objects = json.loads(capsys.readouterr().out)
    assert list(yaml.safe_load_all(text)) == objects
    assert {one["metadata"]["namespace"] for one in objects} == {"models"}


def test_several_documents_of_a_model_are_its_versions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    files[0].write_text(SPEC)
    files[1].write_text(SPEC.replace("iris:1", "iris:2"))
    assert run(["kube", "render", "-f", str(files[0]), "-f", str(files[1]), "-o", "json"]) == 0
    objects = json.loads(capsys.readouterr().out)
    deployments = {one["metadata"]["name"]: one["spec"]["replicas"] for one in objects if one["kind"] == "Deployment"}
    assert deployments == {"iris-v1": 0, "iris-v2": 1}


def test_a_refusal_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "headway.yaml"
    file.write_text(SPEC + "  sticky: {header: x-user}\n")
    assert run(["kube", "render", "-f", str(file)]) == Unsupported.exit_code
    said = capsys.readouterr()
    assert said.out == ""
    assert "headway.yaml:6:12: spec.sticky.header" in said.err


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kube", "render", "-f", str(tmp_path / "none.yaml")]) == InvalidInput.exit_code
    assert "none.yaml" in capsys.readouterr().err


def test_the_definitions_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kube", "crds"]) == 0
    kinds = [one["spec"]["names"]["kind"] for one in yaml.safe_load_all(capsys.readouterr().out)]
    assert kinds == ["ModelDeployment", "ScalingPolicy"]


def test_a_load_test_goes_to_the_namespace_of_the_chosen_context(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWAY_CONTEXT", "prod")
    monkeypatch.setenv("HEADWAY_NAMESPACE", "models")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("[1, 2]\n")
    asked = ["kube", "loadtest", "iris", "--image", "h:1", "--rate", "5", "--version", "v1", "--data", str(rows)]

    def namespaces(*more: str) -> set[str]:
        assert run([*asked, "--dry-run", "-o", "json", *more]) == 0
        return {one["metadata"]["namespace"] for one in json.loads(capsys.readouterr().out)}

    assert namespaces() == {"models"}
    assert namespaces("-n", "others") == {"others"}
    assert namespaces("--context", "staging") == {"default"}


@pytest.mark.parametrize(
    ("load", "where"),
    [
        (["--rate", "5", "--speed", "2"], "--speed"),
        (["--rate", "5", "--think-time", "2s"], "--think-time"),
        (["--replay", "requests.csv", "--duration", "1m"], "--duration"),
        (["--replay", "requests.csv", "--seed", "2"], "--seed"),
        (["--replay", "requests.csv", "--rows", "2"], "--rows"),
        (["--replay", "requests.csv", "--rate", "5"], "--replay"),
        (["--replay", "requests.csv", "--locustfile", "users.py"], "--locustfile"),
        (["--replay", "nowhere.csv"], "--replay"),
    ],
)
def test_options_of_a_load_test_that_say_nothing_about_its_load_are_refused_by_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: list[str], where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requests.csv").write_text("time,rows\n0,1\n1,2\n")
    (tmp_path / "users.py").write_text("")
    asked = ["kube", "loadtest", "iris", "--image", "h:1", "--version", "v1", "--dry-run"]
    assert run([*asked, *load]) == InvalidInput.exit_code
    assert f"where: {where}\n" in capsys.readouterr().err
    assert run([*asked, "--replay", "requests.csv", "--speed", "2"]) == 0


def test_objects_alone_scale_no_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    stages = tmp_path / "stages.yaml"
    stages.write_text("stages: [{duration: 9s, rate: 5, replicas: 2}]")
    asked = ["kube", "loadtest", "iris", "--image", "h:1", "--version", "v1", "--stages", str(stages), "--dry-run"]
    assert run(asked) == Unsupported.exit_code
    assert "this command does, while it runs" in capsys.readouterr().err


def test_a_load_test_of_a_laptop_names_that_of_a_cluster(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWAY_CONTEXT", "prod")
    assert run(["loadtest", "iris", "--rate", "5"]) == Unsupported.exit_code
    assert "headway kube loadtest" in capsys.readouterr().err
