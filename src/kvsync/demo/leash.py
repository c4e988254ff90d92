"""
`python -m kvsync.demo.leash MODULE ARGS...`: run a module that ends when the process that started it does.

The parent holds the other end of our standard input and writes nothing. However it ends, by Ctrl-C or by `kill -9`,
the system closes that end, we read end of file, and ask ourselves to stop; what does not stop in time is ended.
A pipe rather than Linux's parent-death signal: it works on every POSIX system, and does not depend on which of the
parent's threads forked.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

STOP_WITHIN_S = 3.0


def main() -> None:
    """Run the module that `sys.argv` names, on the leash."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m kvsync.demo.leash MODULE ARGS...")
    threading.Thread(target=_end_with_parent, name="leash", daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_WITHIN_S)
    os._exit(1)


if __name__ == "__main__":
    main()
