"""`python -m kvsync.testing.apiserver FOLDER`: see `process`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

from kvsync.testing.apiserver.process import run

if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(Path(sys.argv[1])))
