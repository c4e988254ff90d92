"""Errors as the API has them: a `Status` object, in a body or in a watch."""

from __future__ import annotations

from typing import Any

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    504: "Timeout",
}


class Refusal(Exception):
    """What the API refuses: `details` as in its `Status`, `headers` beside it."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = None,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers or {}
        self._status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata or {},
            "status": "Failure",
            "message": message,
            "reason": reason or REASONS.get(code, "Unknown"),
            **({"details": details} if details else {}),
            "code": code,
        }

    @property
    def status(self) -> dict[str, Any]:
        """The `Status` object."""
        return self._status


def expired(version: int, oldest: int) -> Refusal:
    """The version is no longer known."""
    return Refusal(410, f"too old resource version: {version} ({oldest})")


def from_the_future(version: int, current: int) -> Refusal:
    """The version is not known yet."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return Refusal(
        504,
        f"Too large resource version: {version}, current: {current}",
        details={"retryAfterSeconds": 1, "causes": [cause]},
    )


def not_found(kind: str, name: str) -> Refusal:
    """There is no such object."""
    return Refusal(404, f'{kind} "{name}" not found', details={"name": name, "kind": kind})


def invalid(name: str, problems: list[tuple[str, str]]) -> Refusal:
    """The object breaks rules: (field, what is wrong) each."""
    causes = [{"reason": "FieldValueInvalid", "field": field, "message": text} for field, text in problems]
    said = ", ".join(f"{field}: {text}" for field, text in problems)
    text = f'Pod "{name}" is invalid: {said if len(problems) == 1 else f"[{said}]"}'
    return Refusal(422, text, details={"name": name, "kind": "Pod", "causes": causes})
