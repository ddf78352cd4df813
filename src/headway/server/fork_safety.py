"""Whether a process with a loaded model can be forked (fork(2)): only what does not survive a fork can tell.

* **Threads.** A fork copies the calling thread alone. Python's threads would be missing in the child; so would native
  pools, and whoever hands them work waits for ever (GNU OpenMP: a parallel loop in ``load`` makes the first one in a
  child hang). Pools that clean up after themselves, such as OpenBLAS's, end their threads before a fork and start
  them again when needed (pthread_atfork(3)). So a child is forked that does nothing, and what still runs here after
  that is what would be lost.
* **Connections.** Two processes on one connection read each other's answers.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Collection


def obstacle(known: Collection[int]) -> str | None:
    """Why workers cannot be forked from this process, in words for its log; None when they can.

    ``known`` are descriptors that are ours to share.
    """
    named = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if named:
        return f"loading started threads ({', '.join(sorted(named)[:5])})"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns of exactly what is found out here
        child = os.fork()
        if child == 0:
            os._exit(0)
    os.waitpid(child, 0)
    left = len(os.listdir("/proc/self/task")) - 1
    if left:
        return f"loading started {left} native thread{'s' if left > 1 else ''} that a fork would lose"
    if connections() - set(known):
        return "loading opened connections, which processes cannot share"
    return None


def has_children() -> bool:
    """Whether this process has processes of its own, running or not waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def connections() -> set[int]:
    """The descriptors of this process that are sockets or event queues."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the one that listed the folder
            continue
        if target.startswith(("socket:", "anon_inode:[eventpoll]", "anon_inode:[io_uring]")):
            found.add(int(name))
    return found
