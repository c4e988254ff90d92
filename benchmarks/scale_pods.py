"""
The HTTP side of many engines in one process, for `benchmarks.scale --daemon`: what a daemon asks each of its pods.

    python -m benchmarks.scale_pods PODS

A line of JSON on standard output lists the addresses. The end of standard input ends it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

from aiohttp import web

from kvsync.stream.files import make_room

MODEL: Final = "m"
HISTOGRAMS: Final = 20
METRICS: Final = (
    'vllm:engine_sleep_state{engine="0",sleep_state="awake"} 1.0\n'
    'vllm:kv_cache_usage_perc{engine="0"} 0.5\n'
    'vllm:num_requests_running{engine="0"} 1.0\n'
    'vllm:num_requests_waiting{engine="0"} 0.0\n'
) + "".join(
    f'vllm:histogram_{number}_bucket{{engine="0",le="{bound}.0",model_name="{MODEL}"}} {bound}.0\n'
    for number in range(HISTOGRAMS)
    for bound in range(16)
)
"""As long as a real engine's page, most of which is histograms."""


def application() -> web.Application:
    """The pages that are asked for."""

    async def health(request: web.Request) -> web.Response:
        return web.Response()

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model", "parent": None}]})

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(text=METRICS)

    app = web.Application()
    app.add_routes([web.get("/health", health), web.get("/v1/models", models), web.get("/metrics", metrics)])
    return app


async def serve(pods: int) -> None:
    """Listen on a port for each pod, and say which, until standard input ends."""
    make_room(pods)
    runner = web.AppRunner(application(), access_log=None)
    await runner.setup()
    for _ in range(pods):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(json.dumps([f"http://127.0.0.1:{address[1]}" for address in runner.addresses]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
