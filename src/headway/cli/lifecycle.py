"""Commands for the installation itself: up, down, info."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from headway.cli import process
from headway.cli.output import Format, OutputOption, count_text, emit_json, err, is_json, moment, say
from headway.cli.progress import LiveProgress
from headway.domain.errors import AlreadyRunning, Conflict, Forbidden, InvalidInput, Unauthenticated

if TYPE_CHECKING:
    from headway.settings import Settings

PANEL = "Start and stop"


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (up, down, info):
        app.command(rich_help_panel=PANEL)(command)


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Run in the background.")] = False,
    data_host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Serve models here. Default: HEADWAY_DATA_HOST or 127.0.0.1.")
    ] = None,
    data_port: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=1, max=65535, help="Serve models here. Default: HEADWAY_DATA_PORT or 8420."),
    ] = None,
    control_host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Control API here. Default: HEADWAY_CONTROL_HOST or 127.0.0.1."),
    ] = None,
    control_port: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=1, max=65535, help="Control API here. Default: HEADWAY_CONTROL_PORT or 8421."),
    ] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Start Headway: control plane and gateway.

    It stays in the foreground, where Ctrl-C stops everything, or with --detach goes to the background, where
    headway down does. What was deployed before is served again.
    """
    given = {"data_host": data_host, "data_port": data_port, "control_host": control_host, "control_port": control_port}
    chosen = {key: value for key, value in given.items() if value is not None}
    settings = read_settings(**chosen)
    _make_home(settings.home_path)
    if detach:
        _detach(settings, chosen)
        return
    from headway.bootstrap import serve

    if err.is_terminal and not is_json():
        _log_for_people()
    threading.Thread(target=_greet, args=(settings.home_path, os.getpid()), daemon=True).start()
    code = serve(settings)
    if code:
        raise typer.Exit(code)
    say("Headway is down")


def read_settings(**chosen: Any) -> Settings:
    """The installation's, with what was ``chosen`` on the command line; ``InvalidInput`` names what does not fit."""
    from pydantic import ValidationError

    from headway.settings import Settings

    try:
        return Settings(**chosen)
    except ValidationError as error:
        first = error.errors()[0]
        field = "_".join(str(part) for part in first["loc"])
        where = f"--{field.replace('_', '-')}" if field in chosen else f"HEADWAY_{field.upper()}"
        raise InvalidInput(first["msg"], where=where) from None


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


def _detach(settings: Settings, chosen: dict[str, Any]) -> None:
    home = settings.home_path
    found = process.announced(home)
    already = found is not None and process.answers(found)
    if found is None or not already:
        with LiveProgress("starting the control plane and the gateway"):
            found = process.start(home, chosen)
    if is_json():
        emit_json({**found, "already_up": already})
    else:
        _tell_up(found, "Headway is already up" if already else "Headway is up", "headway deploy DIR")


def _tell_up(found: dict[str, Any], head: str, then: str) -> None:
    say(f"[bold]{head}[/]")
    say(f"  models       {found['gateway_url']}/models/NAME/predict")
    say(f"  control API  {found['control_url']}")
    say(f"  next         {then}")


def _greet(home: Path, pid: int) -> None:
    """Tell, beside the running control plane, when it is up."""
    deadline = time.monotonic() + process.START_S
    while time.monotonic() < deadline:
        found = process.announced(home)
        if found is not None and found["pid"] == pid:
            if is_json():
                emit_json({**found, "already_up": False}, indent=None)
            else:
                _tell_up(found, "Headway is up", "headway deploy DIR in another terminal; Ctrl-C here stops everything")
            return
        time.sleep(process.LOOK_S)


class _ForPeople(logging.Formatter):
    """``12:00:01 message``; what needs attention is called by its name. The time is local, as on the wall."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        text = f"{self.formatTime(record, '%H:%M:%S')} {level}{record.message}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        # Over the ^C that a terminal shows for a Ctrl-C.
        return "\r" + text


def _log_for_people() -> None:
    """The control plane's log on a terminal; without what the banner says and the web server's own chatter."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_ForPeople())
    handler.addFilter(lambda record: not str(record.msg).startswith("control API on"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def down(output: OutputOption = Format.TEXT) -> None:
    """Stop everything: models, gateway, control plane.

    Requests in flight are answered first. What is deployed comes back with headway up.
    """
    settings = read_settings()
    home = settings.home_path
    found = process.announced(home)
    if found is not None and process.answers(found):
        with LiveProgress("stopping: requests in flight finish first"):
            _shut_down(home, found)
        stopped = ["control plane"]
    else:
        stopped = _clean_up(settings)
    if is_json():
        emit_json({"stopped": stopped})
    else:
        say("Headway is down" if stopped else "nothing was running")


def _shut_down(home: Path, found: dict[str, Any]) -> None:
    from headway.client import Client

    # This home's own, with its own token: HEADWAY_URL and HEADWAY_TOKEN may speak of another machine's.
    try:
        token = (home / "admin.token").read_text(encoding="utf-8").strip()
    except OSError:
        token = ""
    with process.Watched(int(found["pid"])) as watched:
        try:
            with Client(found["control_url"], token or None, home) as client:
                client.shutdown()
        except (Unauthenticated, Forbidden):
            # The token file was lost or changed. The process is still this user's own to stop.
            os.kill(int(found["pid"]), signal.SIGTERM)
        watched.await_end()


def _clean_up(settings: Settings) -> list[str]:
    """Stop what a control plane that crashed has left running."""
    from headway.bootstrap import clean_up

    try:
        return clean_up(settings)
    except AlreadyRunning:
        raise Conflict(
            f"the control plane of {settings.home_path} is just starting or stopping", hint="try again in a moment"
        ) from None


def info(output: OutputOption = Format.TEXT) -> None:
    """Show the running installation: addresses, processes, counts."""
    from headway.client import Client

    with Client() as client:
        found = client.info()
    if is_json():
        emit_json(found)
        return
    gateway = f"running, pid {found.gateway_pid}" if found.gateway_running else "not running"
    say(f"[bold]Headway {found.version}[/]  up since {moment(found.started_at)}, pid {found.pid}")
    say(f"  home      {escape(found.home)}")
    say(f"  control   {escape(found.control_url)}")
    say(f"  gateway   {escape(found.gateway_url)}  {gateway}, HAProxy {escape(found.gateway_version)}")
    say(f"  serving   {count_text(found.models, 'model')}, {count_text(found.replicas, 'replica')}")
    if (relay := found.relay) is not None:
        told = f"{relay.waiting:,} wait since {relay.lag_s:.0f} s" if relay.waiting else f"all up to {relay.relayed}"
        say(f"  events    to {escape(relay.exchange)}: {'; '.join(filter(None, (told, escape(relay.problem or ''))))}")
    say(f"  tokens    {'required' if found.require_token else 'not required on loopback'} to predict")
