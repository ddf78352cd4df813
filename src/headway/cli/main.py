"""``headway``: the entry point.

Importing the commands takes some tenths of a second. A Ctrl-C that falls into them ends the process there and
then: nothing has been begun, and an exception out of a half-done import would be a traceback for its user.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from headway.cli.exit_codes import INTERRUPTED


def main() -> None:
    """The ``headway`` command."""
    at_first = signal.getsignal(signal.SIGINT)
    if at_first is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)
    from headway.cli.app import run
    from headway.cli.interrupts import Interrupts, exit_code

    with Interrupts():
        try:
            signal.signal(signal.SIGINT, at_first)
            code = run(sys.argv[1:])
            _ignore()
        except KeyboardInterrupt as interrupt:
            _ignore()
            code = exit_code(type(interrupt))
    sys.exit(code)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def _ignore() -> None:
    """What was to be done is done; an impatient second Ctrl-C must not change what it came to."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


if __name__ == "__main__":
    main()
