"""``make demo`` and ``make demo-down``: publish a real model, ask it real questions, leave it running.

Uses the command line as a user would. Home ``.demo/home`` in this checkout and ports 8420 and 8421, unless
HEADWAY_HOME, HEADWAY_DATA_PORT or HEADWAY_CONTROL_PORT say otherwise; nothing touches ``~/.headway``.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import httpx

from headway.client import Client

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "iris"
HEADWAY = Path(sys.executable).with_name("headway")
HOST = "127.0.0.1"
HOME = Path(os.environ.get("HEADWAY_HOME") or ROOT / ".demo" / "home").absolute()
DATA_PORT = int(os.environ.get("HEADWAY_DATA_PORT") or 8420)
CONTROL_PORT = int(os.environ.get("HEADWAY_CONTROL_PORT") or 8421)
for _name in ("HEADWAY_URL", "HEADWAY_TOKEN"):  # they may lead to another Headway; the demo asks its own
    os.environ.pop(_name, None)
ENVIRONMENT = {
    **os.environ,
    "HEADWAY_HOME": str(HOME),
    "HEADWAY_DATA_PORT": str(DATA_PORT),
    "HEADWAY_CONTROL_PORT": str(CONTROL_PORT),
}
SHOWN_ROWS = 8
START_S = 60


def fail(message: str) -> NoReturn:
    print(f"demo: {message}", file=sys.stderr)
    sys.exit(1)


def step(text: str) -> None:
    print(f"\n==> {text}", flush=True)


def headway(*args: str) -> None:
    """Run the command line, showing what it does; give up when it fails."""
    print(f"$ headway {shlex.join(args)}", flush=True)
    done = subprocess.run([str(HEADWAY), *args], cwd=ROOT, env=ENVIRONMENT, check=False)
    if done.returncode != 0:
        fail(f"`headway {shlex.join(args)}` ended with exit code {done.returncode}")


def ours_runs() -> bool:
    """Whether the control plane on our port belongs to our home."""
    try:
        token = (HOME / "admin.token").read_text(encoding="utf-8").strip()
        answer = httpx.get(
            f"http://{HOST}:{CONTROL_PORT}/v1/info", headers={"authorization": f"Bearer {token}"}, timeout=5
        )
        return answer.status_code == 200 and Path(answer.json()["home"]) == HOME
    except (OSError, httpx.HTTPError, ValueError, KeyError, TypeError):
        return False


def taken(port: int) -> bool:
    """Whether something listens there. A connection in TIME_WAIT does not count, as it would not for Headway."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def gateway_of_this_home_runs() -> bool:
    """A gateway outlives a crashed control plane; then the data port is taken by ourselves."""
    mark = f"HEADWAY_HOME={HOME}".encode()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environ.read_bytes().split(b"\0"):
                return True
        except OSError:
            continue
    return False


def start() -> None:
    if ours_runs():
        print("Headway runs already", flush=True)
        return
    checks = [("HEADWAY_CONTROL_PORT", CONTROL_PORT)]
    if not gateway_of_this_home_runs():
        checks.append(("HEADWAY_DATA_PORT", DATA_PORT))
    for name, port in checks:
        if taken(port):
            fail(f"port {port} is taken by another program; choose another: make demo {name}=…")
    headway("up", "--detach")


def train() -> None:
    """Train unless the model is newer than the code that makes it."""
    made, code = EXAMPLE / "model.joblib", EXAMPLE / "train.py"
    if made.exists() and (EXAMPLE / "held_out.json").exists() and made.stat().st_mtime > code.stat().st_mtime:
        print("trained before; the model is up to date", flush=True)
        return
    subprocess.run([sys.executable, str(code)], cwd=ROOT, check=True)


def await_replicas() -> None:
    """After a restart the same content is deployed already, while its replicas are still on their way."""
    deadline = time.monotonic() + START_S
    with Client(home=HOME) as client:
        while client.get("iris").ready_replicas == 0:
            if time.monotonic() > deadline:
                fail(f"no replica is ready after {START_S} s; see: headway status iris")
            time.sleep(0.1)


def ask() -> None:
    """Send the flowers that training never saw, compare the answers with the truth."""
    held_out: dict[str, Any] = json.loads((EXAMPLE / "held_out.json").read_text(encoding="utf-8"))
    url = f"http://{HOST}:{DATA_PORT}/models/iris/predict"
    answers: list[str] = []
    version = replica = ""
    started = time.perf_counter()
    with httpx.Client(timeout=30) as client:
        for row in held_out["rows"]:
            answer = client.post(url, json=[row])
            if answer.status_code != 200:
                fail(f"{url} answered {answer.status_code}: {answer.text[:500]}")
            answers += predictions(answer.json())
            version, replica = answer.headers["x-headway-version"], answer.headers["x-headway-replica"]
    seconds = time.perf_counter() - started

    print(f"{'sepal':>13} {'petal (cm)':>14}   {'predicted':<12} in truth")
    for row, got, truth in list(zip(held_out["rows"], answers, held_out["species"], strict=True))[:SHOWN_ROWS]:
        sizes = f"{row[0]:>6} x {row[1]:<4} {row[2]:>7} x {row[3]:<4}"
        print(f"{sizes}   {got:<12} {truth}{'' if got == truth else '  <- wrong'}")
    right = sum(got == truth for got, truth in zip(answers, held_out["species"], strict=True))
    print(f"  … and {len(answers) - SHOWN_ROWS} more: {right} of {len(answers)} right ({right / len(answers):.0%}),")
    print(f"    {len(answers)} requests in {seconds:.2f} s, the last one answered by {version}, replica {replica}")


def predictions(body: Any) -> list[str]:
    return list(body["predictions"])


def next_steps() -> None:
    base = f"http://{HOST}:{DATA_PORT}"
    print(f"""
Model        {base}/models/iris/predict
One version  {base}/models/iris/versions/v1/predict
Control API  http://{HOST}:{CONTROL_PORT}

Ask it:
  curl {base}/models/iris/predict -H 'content-type: application/json' -d '[[5.1, 3.5, 1.4, 0.2]]'

What to try next:
  export HEADWAY_HOME={shlex.quote(str(HOME))} PATH="{HEADWAY.parent}:$PATH"
  headway status iris                              # state, versions, replicas
  headway scale iris 3                             # three replicas
  headway logs iris -f                             # what they print
  headway events -f                                # everything that happens
  $EDITOR examples/iris/model.py                   # change the model, then:
  headway deploy examples/iris --canary 10%        # a tenth of the requests
  headway traffic iris v1=50 v2=50                 # half and half
  headway promote iris                             # all of them
  headway rollback iris                            # and back
  make demo-down                                   # stop everything""")


def up() -> None:
    began = time.perf_counter()
    HOME.mkdir(parents=True, exist_ok=True)
    step("Start Headway")
    start()
    step("Train a model: iris species from four measurements")
    train()
    step("Publish it")
    headway("deploy", str(EXAMPLE.relative_to(ROOT)))
    await_replicas()
    step("Ask it about fifty flowers that training never saw")
    ask()
    step("What runs now")
    headway("list")
    next_steps()
    print(f"\nDone in {time.perf_counter() - began:.1f} s. Headway goes on running in the background.")


def down() -> None:
    if not ours_runs() and not gateway_of_this_home_runs():
        print("the demo does not run")
        return
    headway("down")


if __name__ == "__main__":
    if sys.argv[1:] == ["up"]:
        up()
    elif sys.argv[1:] == ["down"]:
        down()
    else:
        sys.exit("usage: demo.py up|down")
