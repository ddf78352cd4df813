"""``headway``: the entry point.

Importing the commands takes some tenths of a second. A Ctrl-C that falls into them ends the process there and
then: nothing has been begun, and an exception out of a half-done import would be a traceback for its user. So this
module imports nothing that is not there already when Python has started: even ``signal`` brings ten others.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has only the module on top of it
import os
import sys


def main() -> None:
    """The ``headway`` command."""
    at_first = _signal.getsignal(_signal.SIGINT)
    if at_first is not _signal.SIG_IGN:
        _signal.signal(_signal.SIGINT, _leave)
    from headway.cli.app import run
    from headway.cli.exit_codes import INTERRUPTED, TERMINATED
    from headway.cli.interrupts import Interrupts, Terminated

    with Interrupts():
        try:
            _signal.signal(_signal.SIGINT, at_first)
            code = run(sys.argv[1:])
            _ignore()
        except KeyboardInterrupt:
            _ignore()
            code = INTERRUPTED
        except Terminated:
            _ignore()
            code = TERMINATED
    sys.exit(code)


def _leave(number: int, frame: object) -> None:
    os._exit(130)  # INTERRUPTED, of a module that imports typing


def _ignore() -> None:
    """What was to be done is done; an impatient second Ctrl-C must not change what it came to."""
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)


if __name__ == "__main__":
    main()
