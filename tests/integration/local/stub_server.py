"""A stand-in for the model server that starts in 30 ms and does as files in its bundle say.

Run as ``PYTHON -m headway.server CONFIG.json`` where PYTHON is the script that :func:`stub_python` writes.
``model.py`` may define ``load()`` and ``live()``; ``unready`` in the bundle makes it answer 503, ``stubborn``
makes it ignore SIGTERM, ``busy`` the first one. As a template it says that it cannot be forked.
"""

from __future__ import annotations

import sys
from pathlib import Path

_SERVER = """
import faulthandler, json, os, signal, socket, sys, time

config = json.load(open(sys.argv[3]))
bundle = config["bundle_path"]

def has(name):
    return os.path.exists(os.path.join(bundle, name))

faulthandler.register(signal.SIGUSR2, file=open(config["stack_file"], "w"), all_threads=True)
told = [None] if has("busy") else []
signal.signal(signal.SIGTERM, signal.SIG_IGN if has("stubborn") else lambda *_: told.pop() if told else os._exit(0))
if sys.argv[4:] == ["--template"]:
    control = socket.socket(socket.AF_UNIX)
    control.bind(config["listen"].removeprefix("unix:"))
    control.listen(8)
    while True:
        runtime, _ = control.accept()
        with runtime, runtime.makefile("rwb", buffering=0) as lines:
            lines.write(b'{"type": "hello", "load_s": 0.0, "obstacle": "the stand-in is not forked"}\\n')
            for line in lines:
                answer = {"type": "not_forked", "serial": json.loads(line)["serial"], "message": "it is not forked"}
                lines.write(json.dumps(answer).encode() + b"\\n")
print("stub", os.getpid(), "starts", flush=True)
model = {}
if has("model.py"):
    path = os.path.join(bundle, "model.py")
    exec(compile(open(path).read(), path, "exec"), model)
try:
    model.get("load", lambda: None)()
except Exception as error:
    report = {"stage": "load", "code": "load_failed", "message": f"{type(error).__name__}: {error}",
              "where": "model.py:1"}
    open(config["failure_file"], "w").write(json.dumps(report))
    os._exit(78)
address = config["listen"].removeprefix("unix:")
listener = socket.socket(socket.AF_UNIX)
listener.bind(address)
listener.listen(64)
while True:
    connection, _ = listener.accept()
    with connection:
        request = connection.recv(4096)
        if b"/live" in request:
            model.get("live", lambda: None)()
        status = "503 Service Unavailable" if b"/ready" in request and has("unready") else "200 OK"
        try:
            connection.sendall(f"HTTP/1.1 {status}\\r\\ncontent-length: 0\\r\\n\\r\\n".encode())
        except OSError:
            pass
"""


def stub_python(folder: Path) -> str:
    """Write the stand-in into ``folder``; the program to name as a spec's ``python``."""
    server = folder / "stub_server.py"
    program = folder / "stub-python"
    if not program.exists():
        server.write_text(_SERVER)
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{server}" "$@"\n')
        program.chmod(0o700)
    return str(program)
