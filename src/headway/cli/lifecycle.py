"""Commands for the installation itself: up, down, info, version."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from headway import __version__
from headway.cli.output import Format, OutputOption, emit_json, err, is_json, moment, note, say
from headway.domain.errors import ControlUnreachable, HeadwayError, InvalidInput, tree

if TYPE_CHECKING:
    from headway.settings import Settings

START_S = 60.0
STOP_S = 180.0
LOOK_S = 0.05


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (up, down, info, version):
        app.command()(command)


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Run in the background.")] = False,
    data_host: Annotated[str | None, typer.Option(help="Address that models are served on.")] = None,
    data_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port that models are served on.")] = None,
    control_host: Annotated[str | None, typer.Option(help="Address of the control API.")] = None,
    control_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the control API.")] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Start Headway: control plane and gateway. Ctrl-C, or headway down, stops everything."""
    given = {"data_host": data_host, "data_port": data_port, "control_host": control_host, "control_port": control_port}
    chosen = {key: value for key, value in given.items() if value is not None}
    settings = _settings(**chosen)
    _make_home(settings.home_path)
    if detach:
        _detach(settings, chosen)
        return
    from headway.bootstrap import serve

    threading.Thread(target=_greet, args=(settings.home_path, os.getpid()), daemon=True).start()
    code = serve(settings)
    if code:
        raise typer.Exit(code)


def _settings(**chosen: Any) -> Settings:
    from pydantic import ValidationError

    from headway.settings import Settings

    try:
        return Settings(**chosen)
    except ValidationError as error:
        first = error.errors()[0]
        name = f"HEADWAY_{'_'.join(str(part) for part in first['loc']).upper()}"
        raise InvalidInput(first["msg"], where=name) from None


def _make_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        (home / "control.log").open("ab").close()
    except OSError as error:
        raise InvalidInput(
            f"{home} cannot be this installation's home: {error.strerror}",
            where="HEADWAY_HOME",
            hint="name a folder that you may write to",
        ) from None


def _announced(home: Path) -> dict[str, Any] | None:
    """What the running control plane of ``home`` says of itself; None while none does."""
    try:
        found = json.loads((home / "control.json").read_text(encoding="utf-8"))
        os.kill(int(found["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(found)


def _alive(found: dict[str, Any]) -> bool:
    """Whether it answers, too: a pid can be somebody else's by now."""
    import httpx

    try:
        return httpx.get(f"{found['control_url']}/healthz", timeout=2.0).status_code == 200
    except httpx.HTTPError:
        return False


def _greet(home: Path, pid: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        found = _announced(home)
        if found is not None and found["pid"] == pid:
            note(f"models on {found['gateway_url']}, control API on {found['control_url']}; Ctrl-C stops everything")
            return
        time.sleep(LOOK_S)


def _detach(settings: Settings, chosen: dict[str, Any]) -> None:
    home = settings.home_path
    found = _announced(home)
    if found is not None and _alive(found):
        _tell_up(found, already=True)
        return
    log = home / "control.log"
    options = [part for key, value in chosen.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "headway.cli.main", "up", "-o", "json", *options]
    with log.open("ab") as stream:
        written = stream.tell()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        _tell_up(_await_start(process, home, log, written), already=False)
    except BaseException:
        if process.poll() is None:
            process.terminate()
        raise


def _await_start(process: subprocess.Popen[bytes], home: Path, log: Path, written: int) -> dict[str, Any]:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        found = _announced(home)
        if found is not None and found["pid"] == process.pid and _alive(found):
            return found
        if process.poll() is not None:
            raise _start_error(log, written, process.returncode)
        time.sleep(LOOK_S)
    raise ControlUnreachable(f"the control plane did not come up within {START_S:.0f} s", hint=f"see {log}")


def _start_error(log: Path, written: int, code: int) -> HeadwayError:
    """What the process said last, as the error it was."""
    with log.open("rb") as stream:
        stream.seek(written)
        lines = stream.read().decode("utf-8", "replace").splitlines()
    for line in reversed(lines):
        try:
            told = json.loads(line)["error"]
            kind = next(k for k in tree() if k.code == told["code"])
        except (ValueError, KeyError, TypeError, StopIteration):
            continue
        return kind(told["message"], where=told.get("where"), hint=told.get("hint"))
    tail = "\n".join(lines[-15:])
    return HeadwayError(f"the control plane ended with exit code {code}", hint=f"see {log}", details={"log_tail": tail})


def _tell_up(found: dict[str, Any], *, already: bool) -> None:
    if is_json():
        emit_json({**found, "already_up": already})
        return
    say(f"Headway is {'already ' if already else ''}up")
    say(f"  models       {found['gateway_url']}/models/NAME/predict")
    say(f"  control API  {found['control_url']}")
    say("  next         headway deploy DIR")


def down(output: OutputOption = Format.TEXT) -> None:
    """Stop everything: models, gateway, control plane. What is deployed comes back with headway up."""
    settings = _settings()
    home = settings.home_path
    found = _announced(home)
    if found is not None and _alive(found):
        _shut_down(home, found)
        stopped = ["control plane"]
    else:
        from headway.bootstrap import clean_up

        stopped = clean_up(settings)
    if is_json():
        emit_json({"stopped": stopped})
    elif stopped:
        say("Headway is down")
    else:
        say("nothing was running")


def _shut_down(home: Path, found: dict[str, Any]) -> None:
    from headway.client import Client

    # This home's own, with its own token: HEADWAY_URL and HEADWAY_TOKEN may speak of another machine's.
    try:
        token = (home / "admin.token").read_text(encoding="utf-8").strip()
    except OSError:
        token = ""
    with Client(found["control_url"], token or None, home) as client:
        client.shutdown()
    deadline = time.monotonic() + STOP_S
    pid = int(found["pid"])
    waiting = err.status("requests in flight finish, then everything stops") if err.is_terminal else None
    if waiting is not None and not is_json():
        waiting.start()
    try:
        while _runs(pid):
            if time.monotonic() > deadline:
                raise ControlUnreachable(f"the control plane (pid {pid}) has not ended after {STOP_S:.0f} s")
            time.sleep(LOOK_S)
    finally:
        if waiting is not None:
            waiting.stop()


def _runs(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def info(output: OutputOption = Format.TEXT) -> None:
    """Show the running installation: addresses, processes, counts."""
    from headway.client import Client

    with Client() as client:
        found = client.info()
    if is_json():
        emit_json(found)
        return
    gateway = "running" if found.gateway_running else "not running"
    say(f"Headway {found.version}, up since {moment(found.started_at)}, pid {found.pid}")
    say(f"  home      {escape(found.home)}")
    say(f"  control   {found.control_url}")
    say(f"  gateway   {found.gateway_url}, {gateway}, pid {found.gateway_pid}, {escape(found.gateway_version)}")
    say(f"  serving   {found.models} models, {found.replicas} replicas")
    say(f"  tokens    {'required' if found.require_token else 'not required on loopback'} to predict")


def version(output: OutputOption = Format.TEXT) -> None:
    """Print Headway's version."""
    if is_json():
        emit_json({"version": __version__})
    else:
        say(__version__)
