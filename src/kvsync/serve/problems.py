"""
What is answered when something is wrong with a request or with what stands behind us: one shape everywhere, OpenAI's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

_logger = logging.getLogger(__name__)


class Problem(Exception):
    """
    An answer with an error status; `message` says what is wrong, the value met and what to do, `param` which field,
    `headers` what else the client's library may want to know.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = headers or {}

    def response(self) -> web.Response:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return web.json_response({"error": error}, status=self.status, headers=self.headers)


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into an answer of our shape."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPNotFound:
        return Problem(404, f"there is no {request.path}; see the guide for the paths", code="not_found").response()
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        answer = Problem(405, f"{request.path} takes {allowed}, not {error.method}", code="method_not_allowed")
        return answer.response()
    except web.HTTPException:
        raise
    except Exception:
        _logger.exception("%s %s failed", request.method, request.path)
        return Problem(500, "an internal error; the daemon's log says more", code="internal_error").response()
