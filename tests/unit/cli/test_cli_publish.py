"""Publishing from the command line: init, deploy, apply, diff and delete, waited for and not."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import headway.client
from headway.cli import scaffold
from headway.cli.publish import percent
from headway.domain.errors import InvalidInput
from headway.domain.spec_document import parse_document
from headway.server import r_packages
from tests.unit.cli.wire import Terminal, model
from tests.unit.client.control import GATEWAY, PretendedControl, model_folder

IRIS = "/v1/models/iris"
DOCUMENT = "apiVersion: headway.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: iris}\nspec: {}\n"
Run = Callable[..., Any]


@pytest.fixture
def control(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> PretendedControl:
    """A control API that plays rollouts, in place of the terminal's own."""
    made = PretendedControl()
    made.override = lambda request: (
        httpx.Response(200, json=info(token=False)) if request.url.path == "/v1/info" else None
    )
    monkeypatch.setattr(headway.client, "Client", made.client)
    return made


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def info(*, token: bool) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "pid": 1,
        "started_at": 0.0,
        "home": "/home",
        "control_url": "http://127.0.0.1:8421",
        "gateway_url": GATEWAY,
        "gateway_running": True,
        "gateway_pid": 2,
        "gateway_version": "2.8",
        "gateway_adopted": False,
        "models": 1,
        "replicas": 1,
        "require_token": token,
    }


def goes_well(control: PretendedControl, version: str = "v1") -> None:
    control.wish(version)
    control.script = [lambda c: c.starts(version), lambda c: c.becomes_live(version)]


def tried(stdout: str) -> list[str]:
    """The words of the line to try, as the shell reads them."""
    return shlex.split(stdout.partition("  try ")[2].splitlines()[0])


# -- init ----------------------------------------------------------------------------------------


def test_init_writes_a_model_that_loads_predicts_its_sample_and_has_a_valid_document(terminal: Terminal) -> None:
    outcome = terminal.run("init", "flowers", "-o", "json")
    assert outcome.json == {"folder": "flowers", "files": ["model.py", "headway.yaml", "sample.json", "README.md"]}
    folder = Path("flowers")
    assert sorted(p.name for p in folder.iterdir()) == sorted(outcome.json["files"])
    document = parse_document((folder / "headway.yaml").read_text(), "headway.yaml")
    assert document.metadata.name == "flowers"
    module, _, name = str(document.spec.model.entrypoint).partition(":")
    namespace: dict[str, Any] = {}
    exec((folder / f"{module}.py").read_text(), namespace)
    made = namespace[name]()
    made.load()
    assert made.predict(json.loads((folder / "sample.json").read_text())) == ["short", "long"]


def test_init_writes_a_model_in_r_too(terminal: Terminal) -> None:
    outcome = terminal.run("init", "flowers", "--r", "-o", "json")
    files = ["model.R", "R-packages.txt", "headway.yaml", "sample.json", "README.md"]
    assert outcome.json == {"folder": "flowers", "files": files}
    document = parse_document(Path("flowers/headway.yaml").read_text(), "headway.yaml")
    assert (document.metadata.name, document.spec.model.entrypoint) == ("flowers", None)
    assert r_packages.parse(Path("flowers/R-packages.txt").read_text()) == []


def test_init_touches_nothing_that_is_there(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("flowers").mkdir()
    assert terminal.run("init", "flowers").code == 0
    (Path("flowers") / "model.py").write_text("mine")
    outcome = terminal.run("init", "flowers")
    assert outcome.code == 5
    assert "flowers" in outcome.stderr
    assert (Path("flowers") / "model.py").read_text() == "mine"

    def full(folder: Path, name: str) -> list[str]:
        raise OSError(28, "No space left on device", str(folder / "model.py"))

    monkeypatch.setattr(scaffold, "write", full)
    outcome = terminal.run("init", "trees")
    assert outcome.code == 2
    assert "trees/model.py: No space left" in outcome.stderr


# -- deploy and apply ----------------------------------------------------------------------------


def test_deploy_follows_and_ends_with_urls_and_a_line_to_try(
    terminal: Terminal, control: PretendedControl, tmp_path: Path
) -> None:
    goes_well(control)
    folder = model_folder(tmp_path, sample_json='[\n  ["it\'s"]\n]')
    outcome = terminal.run("deploy", str(folder))
    assert outcome.code == 0, outcome
    assert outcome.stdout.splitlines()[:2] == ["iris v1 serves", f"  production  {GATEWAY}/models/iris"]
    words = tried(outcome.stdout)
    assert words[:3] == ["curl", "-s", f"{GATEWAY}/models/iris/predict"]
    assert json.loads(words[-1]) == [["it's"]]
    stages = [line.split()[:2] for line in outcome.stderr.splitlines()]
    assert stages == [[stage, "done"] for stage in ("bundle", "environment", "start", "ready", "route")]


def test_deploy_without_a_sample_says_so_and_guesses(
    terminal: Terminal, control: PretendedControl, tmp_path: Path
) -> None:
    goes_well(control)
    outcome = terminal.run("deploy", str(model_folder(tmp_path)))
    assert "no sample.json" in outcome.stderr
    assert json.loads(tried(outcome.stdout)[-1]) == [[1, 2, 3]]


def test_a_long_sample_is_named_by_its_file(terminal: Terminal, control: PretendedControl, tmp_path: Path) -> None:
    goes_well(control)
    folder = model_folder(tmp_path, sample_json=json.dumps([list(range(500))]))
    assert tried(terminal.run("deploy", str(folder)).stdout)[-1] == f"@{folder}/sample.json"


def test_where_tokens_are_required_the_line_to_try_shows_one(
    terminal: Terminal, control: PretendedControl, tmp_path: Path
) -> None:
    goes_well(control)
    control.override = lambda request: (
        httpx.Response(200, json=info(token=True)) if request.url.path == "/v1/info" else None
    )
    assert "authorization: Bearer $TOKEN" in tried(terminal.run("deploy", str(model_folder(tmp_path))).stdout)


@pytest.mark.parametrize(("form", "share"), [("10%", 10), ("10", 10), ("1 %", 1), ("99%", 99)])
def test_a_canary_is_a_share_in_percent(
    terminal: Terminal, control: PretendedControl, tmp_path: Path, form: str, share: int
) -> None:
    control.wish("v1")
    outcome = terminal.run("deploy", str(model_folder(tmp_path)), "--canary", form, "--no-wait")
    assert outcome.code == 0
    assert outcome.stdout.splitlines()[0] == "iris v1 is on its way: headway status iris"
    assert [body["canary"] for body in control.bodies] == [share]
    assert control.followed == 0


@pytest.mark.parametrize("form", ["0", "100", "100%", "-1", "1.5%", "ten", "", "%", "1000000000000"])
def test_a_share_that_is_none_is_refused(form: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        percent(form)
    assert refused.value.where == "--canary"


def test_what_is_deployed_already_is_unchanged(terminal: Terminal, control: PretendedControl, tmp_path: Path) -> None:
    goes_well(control)
    folder = str(model_folder(tmp_path))
    assert terminal.run("deploy", folder).code == 0
    control.unchanged = True
    outcome = terminal.run("deploy", folder)
    assert outcome.stdout.splitlines()[0] == "iris v1 is unchanged: this content is deployed already"
    assert "stored already" in outcome.stderr
    assert "no sample.json" not in outcome.stderr


def test_for_programs_a_deploy_is_one_json_value(terminal: Terminal, control: PretendedControl, tmp_path: Path) -> None:
    goes_well(control)
    outcome = terminal.run("deploy", str(model_folder(tmp_path)), "-o", "json")
    assert (outcome.json["model"], outcome.json["version"], outcome.json["unchanged"]) == ("iris", "v1", False)
    assert outcome.stderr == ""


def test_a_failed_deploy_tells_why_where_and_the_log(
    terminal: Terminal, control: PretendedControl, tmp_path: Path
) -> None:
    control.wish("v1")
    control.script = [lambda c: c.starts("v1"), lambda c: c.fails("v1", hint="add [it]", log_tail="a\nb")]
    outcome = terminal.run("deploy", str(model_folder(tmp_path)))
    assert outcome.code == 7
    assert outcome.stdout == ""
    lines = outcome.stderr.splitlines()
    assert lines[-6:] == [
        "error: ValueError: no",
        "where: model.py:3",
        "last lines of the log:",
        "  a",
        "  b",
        "hint: add [it]",
    ]
    assert lines[-7].split()[:2] == ["start", "failed"]


def test_apply_takes_content_and_sample_from_where_the_document_says(
    terminal: Terminal, control: PretendedControl, tmp_path: Path
) -> None:
    goes_well(control)
    model_folder(tmp_path, "content", rows_json="[[7]]")
    document = tmp_path / "iris.yaml"
    document.write_text(DOCUMENT.replace("spec: {}", "spec: {model: {path: content, sample: rows.json}}"))
    outcome = terminal.run("apply", "-f", str(document))
    assert outcome.code == 0, outcome
    assert tried(outcome.stdout)[-1] == "[[7]]"
    assert control.bodies[0]["spec"]["metadata"] == {"name": "iris"}


# -- diff and delete -----------------------------------------------------------------------------


def test_diff_lists_what_would_change(terminal: Terminal, tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "headway.yaml").write_text(DOCUMENT)
    args = ("diff", "-f", str(folder / "headway.yaml"))
    changes = [
        {"path": "spec.scaling.minReplicas", "old": 1, "new": 2},
        {"path": "bundle", "old": "a" * 64, "new": "b" * 64},
        {"path": "spec.sticky", "old": None, "new": {"header": "x-[user]"}},
    ]
    answer = {"exists": True, "changes": changes, "new_version": True}
    terminal.answer(f"POST {IRIS}/diff", answer)
    outcome = terminal.run(*args)
    assert "would make a new version" in outcome.stdout.splitlines()[0]
    assert [line.split()[:3] for line in outcome.stdout.splitlines()[1:]] == [
        ["field", "deployed", "document"],
        ["spec.scaling.minReplicas", "1", "2"],
        ["bundle", "a" * 12, "b" * 12],
        ["spec.sticky", "-", "{'header':"],
    ]
    assert terminal.run(*args, "-o", "json").json == answer
    terminal.answer(f"POST {IRIS}/diff", {"exists": True, "changes": [], "new_version": False})
    assert terminal.run(*args).stdout.strip().endswith("no changes")
    terminal.answer(f"POST {IRIS}/diff", {"exists": False, "changes": [], "new_version": True})
    assert "not deployed yet" in terminal.run(*args).stdout


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_delete_asks_on_a_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, answer: str, code: int) -> None:
    import io

    keyboard = io.StringIO(answer)
    keyboard.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", keyboard)
    terminal.answer(f"GET {IRIS}", model())
    terminal.answer(f"DELETE {IRIS}", {"model": "iris", "cursor": 9})
    outcome = terminal.run("delete", "iris", "--no-wait")
    assert outcome.code == code
    assert "Delete iris and all its versions?" in outcome.stderr
    assert ("DELETE" in {r.method for r in terminal.requests}) is (code == 0)
    assert outcome.stdout == ("iris is being deleted\n" if code == 0 else "")


def test_delete_without_any_standard_input_needs_a_yes(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    terminal.answer(f"GET {IRIS}", model())
    assert terminal.run("delete", "iris").code == 2


def test_delete_waits_until_it_is_gone(terminal: Terminal) -> None:
    views = [model(), model(state="deleting")]

    def look(request: httpx.Request) -> httpx.Response:
        if views:
            return httpx.Response(200, json=views.pop(0))
        return httpx.Response(404, json={"error": {"code": "model_not_found", "message": "gone"}})

    terminal.answers[f"GET {IRIS}"] = look
    terminal.answer(f"DELETE {IRIS}", {"model": "iris", "cursor": 9})
    terminal.answers["GET /v1/events"] = lambda request: httpx.Response(
        200, json=[] if "json" in request.headers.get("accept", "") or "after" in request.url.params else None
    )
    outcome = terminal.run("delete", "iris", "--yes")
    assert (outcome.code, outcome.stdout) == (0, "iris is gone\n"), outcome


def test_delete_names_the_model_that_is_not_there(terminal: Terminal) -> None:
    terminal.refuse(f"GET {IRIS}", 404, "model_not_found", "there is no model 'iris'", hint="deployed models: a, b")
    outcome = terminal.run("delete", "iris", "--yes")
    assert outcome.code == 3
    assert "hint: deployed models: a, b" in outcome.stderr
