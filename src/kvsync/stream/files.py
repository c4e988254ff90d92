"""
The process's limit of open files, raised as far as the system lets us.

An engine needs up to eight descriptors (a line, its monitor, a connection, and the same for a replay), while
many systems start processes with 1,024.
"""

from __future__ import annotations

import logging
import resource
from typing import Final

logger = logging.getLogger(__name__)

FILES_PER_ENGINE: Final = 8
FILES_OF_OTHERS: Final = 256


def make_room(engines: int) -> None:
    """
    Raise the soft limit for this many engines, and warn if the hard limit is in the way.
    """
    wanted = FILES_PER_ENGINE * engines + FILES_OF_OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if reachable < wanted:
        logger.warning(
            "%d engines need up to %d open files and the limit is %d: raise it (ulimit -Hn)", engines, wanted, hard
        )
    if reachable > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
