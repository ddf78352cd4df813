"""``headway up`` on a terminal: it says where everything is, and Ctrl-C stops all of it."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.e2e.calls import Caller
from tests.installation import HEADWAY, Installation
from tests.waiting import wait_until


@dataclass
class Screen:
    """A terminal with one command in its foreground."""

    process: subprocess.Popen[bytes]
    master: int
    text: str = ""

    def shows(self, words: str) -> bool:
        """Whether it has shown ``words`` by now."""
        with suppress(BlockingIOError, OSError):  # EIO: the command has ended and its terminal is closed
            while data := os.read(self.master, 65536):
                self.text += data.decode()
        return words in self.text

    def press(self, key: bytes) -> None:
        os.write(self.master, key)


@contextmanager
def terminal(installation: Installation, *args: str) -> Iterator[Screen]:
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    # setsid makes the terminal the command's own: the kernel turns Ctrl-C into SIGINT for it alone.
    # And as in any terminal it is not ignored, though a suite in the background of a script has it ignored.
    command = ["env", "--default-signal=INT", "setsid", "--ctty", "--wait", str(HEADWAY), *args]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=installation.env)
    os.close(slave)
    try:
        yield Screen(process, master)
    finally:
        os.close(master)
        process.kill()
        process.wait()


def test_it_tells_where_it_is_and_ctrl_c_stops_everything(installation: Installation) -> None:
    with terminal(installation, "up") as screen:
        wait_until(lambda: screen.shows("Ctrl-C here stops everything"), what="the banner")
        assert f"{installation.data_url}/models/NAME/predict" in screen.text
        assert installation.control_url in screen.text
        folder = installation.scratch / "one"
        folder.mkdir(exist_ok=True)
        (folder / "model.py").write_text("def predict(X):\n    return [[1] for _ in X]\n")
        installation.ok("deploy", str(folder))
        call = Caller(installation.data_url)
        assert call("/models/one/predict").status == 200
        call.close()

        screen.press(b"\x03")
        wait_until(lambda: screen.shows("stopping"), what="that it stops")
        screen.press(b"\x03")  # impatience changes nothing
        wait_until(lambda: screen.shows("Headway is down"), what="the end")
        assert screen.process.wait(30) == 0
        assert "Traceback" not in screen.text
    assert installation.processes() == []


def test_a_second_one_on_the_same_home_is_refused(running: Installation) -> None:
    outcome = running.run("up")
    assert outcome.code == 5
    assert "already running" in outcome.stderr
    assert "headway down" in outcome.stderr
    assert running.ok("list").code == 0
