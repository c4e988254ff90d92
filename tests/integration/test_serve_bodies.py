"""Bodies that come packed, broken or too long."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

import pytest
from tests.integration.serve_helpers import MODEL, Daemon, daemon, make_pod

from kvsync.testing.fake_pod import FakePod

ASKED = {"model": MODEL, "prompt": "x" * 200}
PLAIN = json.dumps(ASKED).encode()
PACKED = gzip.compress(PLAIN)
RAW_DEFLATE = zlib.compressobj(wbits=-zlib.MAX_WBITS)
LIMIT = 65_536
BOMB = gzip.compress(b" " * (20 * LIMIT))
PATHS = ("/v1/route", "/v1/score", "/v1/completions", "/v1/chat/completions")
OPENAI = {"message", "type", "param", "code"}


async def post(here: Daemon, path: str, body: bytes, encoding: str) -> tuple[int, dict[str, Any]]:
    """POST these bytes under that encoding; give status and JSON."""
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    async with here.client.post(f"{here.url}{path}", data=body, headers=headers) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_a_body_is_sent_on_as_its_headers_say(path: str, encoding: str) -> None:
    """The pod gets it unpacked, under its own length and no encoding."""

    async def story() -> None:
        async with FakePod() as pod, daemon(make_pod("a", pod.url)) as here:
            status, _ = await post(here, path, PACKED if encoding == "gzip" else PLAIN, encoding)
            assert status == 200
            seen = pod.requests[0]
            assert seen.body == ASKED
            assert "Content-Encoding" not in seen.headers
            assert seen.headers["Content-Length"] == str(len(PLAIN))

    asyncio.run(story())


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", PACKED),
        ("GZIP, identity", PACKED),
        ("x-gzip", PACKED),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", RAW_DEFLATE.compress(PLAIN) + RAW_DEFLATE.flush()),
        ("identity", PLAIN),
    ],
    ids=["gzip", "with identity", "x-gzip", "deflate", "deflate without header", "identity"],
)
def test_a_packed_body_is_read(encoding: str, body: bytes) -> None:
    """Whatever of the accepted encodings it comes in."""

    async def story() -> None:
        async with daemon(make_pod("a")) as here:
            status, answer = await post(here, "/v1/route", body, encoding)
            assert (status, answer["pod"]) == (200, "a")

    asyncio.run(story())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("encoding", "body", "says"),
    [
        ("gzip", b"{}", "is gzip, but the body is not"),
        ("deflate", b"\xff", "is deflate, but the body is not"),
        ("gzip", b"", "the body is empty"),
        ("gzip", PACKED[:-9], "is cut short"),
        ("gzip", PACKED[:-8] + b"\0" * 8, "the body is not"),
        ("gzip", PACKED + PACKED, f"{len(PACKED)} bytes follow its end"),
    ],
    ids=["not gzip", "not deflate", "empty", "cut short", "wrong checksum", "two members"],
)
def test_a_body_that_is_not_what_its_header_says_is_refused(
    path: str, encoding: str, body: bytes, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The header is named, and nothing is logged: it is the client's mistake."""

    async def story() -> None:
        async with daemon(make_pod("a")) as here:
            status, answer = await post(here, path, body, encoding)
            error = answer["error"]
            assert (status, error["type"], error["code"]) == (400, "invalid_request_error", "content_encoding")
            assert f"Content-Encoding is {encoding}" in error["message"]
            assert says in error["message"]
            assert set(error) == OPENAI

    asyncio.run(story())
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encoding", ["br", "zstd", "zz", "gzip, gzip"])
def test_another_encoding_is_refused(path: str, encoding: str) -> None:
    """With what is accepted, in words and in the header for it, whatever the body is."""

    async def story() -> None:
        async with daemon(make_pod("a")) as here:
            headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
            async with here.client.post(f"{here.url}{path}", data=PLAIN, headers=headers) as response:
                error = (await response.json())["error"]
                assert (response.status, error["code"]) == (415, "content_encoding")
                assert response.headers["Accept-Encoding"] == "gzip, deflate"
            assert repr(encoding) in error["message"]
            assert "gzip, deflate" in error["message"]

    asyncio.run(story())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("encoding", "body"),
    [("identity", b" " * (LIMIT + 1)), ("gzip", BOMB), ("deflate", zlib.compress(b" " * (LIMIT + 1)))],
    ids=["plain", "bomb", "one byte over"],
)
def test_a_body_too_long_names_the_setting(path: str, encoding: str, body: bytes) -> None:
    """Its length is that of the unpacked body."""

    async def story() -> None:
        async with daemon(make_pod("a"), body_bytes_max=LIMIT) as here:
            status, answer = await post(here, path, body, encoding)
            assert (status, answer["error"]["code"]) == (413, "body_too_large")
            assert f"{LIMIT} bytes of the setting body_bytes_max" in answer["error"]["message"]

    asyncio.run(story())


def test_a_packed_body_may_be_as_long_as_the_setting() -> None:
    """To the byte."""

    async def story() -> None:
        async with daemon(make_pod("a"), body_bytes_max=LIMIT) as here:
            status, _ = await post(here, "/v1/route", gzip.compress(PLAIN.ljust(LIMIT)), "gzip")
            assert status == 200

    asyncio.run(story())
