"""
Running things side by side so that the first failure ends the rest, and comes out as itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

_T = TypeVar("_T")


async def together(work: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """
    Await all of `work` at once and give the results in order; the first error cancels the others and is raised.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def beside(work: Coroutine[Any, Any, _T], endless: Coroutine[Any, Any, None]) -> _T:
    """
    Await `work` while `endless` goes on beside it; when that fails first, raise its error instead.
    """
    main, other = asyncio.ensure_future(work), asyncio.ensure_future(endless)
    try:
        await asyncio.wait([main, other], return_when=asyncio.FIRST_COMPLETED)
        if other.done():
            other.result()
        return await main
    finally:
        for task in (main, other):
            task.cancel()
        # What a task still has to say once it is cancelled comes too late.
        await asyncio.gather(main, other, return_exceptions=True)
