"""
What an API server refused, or did not answer: a value, and what to tell the operator about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kvsync.errors import DiscoveryError
from kvsync.fleet.finding import Finding

SOURCE: Final = "kubernetes"
GONE: Final = 410
TEXT_MAX: Final = 400

CONFIG: Final = "Config"
UNREACHABLE: Final = "Unreachable"
MALFORMED: Final = "Malformed"
INTERNAL: Final = "Internal"


@dataclass(frozen=True, slots=True)
class Failure:
    """
    One refusal: `status` is the HTTP or in-stream code, 0 where there was no answer; `reason` is the API's own word.
    """

    status: int
    reason: str
    message: str
    retry_after_s: float = 0.0

    @property
    def is_lasting(self) -> bool:
        """Whether only an operator can mend it, so that it is told at the first time."""
        return self.status in (400, 401, 403, 404) or self.reason == CONFIG


class ApiError(DiscoveryError):
    """The API server, or the way to it, failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.status} {failure.reason}: {failure.message}")
        self.failure = failure


def failure_of(document: Any, status: int, retry_after: str | None = None) -> Failure:
    """Read a `Status` object, as a body or as the object of an ERROR event."""
    said: Mapping[str, Any] = document if isinstance(document, dict) else {}
    code = said.get("code")
    details = said.get("details")
    seconds = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    if retry_after is not None and retry_after.isdecimal():
        seconds = int(retry_after)
    return Failure(
        status=code if isinstance(code, int) else status,
        reason=str(said.get("reason") or f"HTTP {status}"),
        message=" ".join(str(said.get("message") or "no reason was given").split())[:TEXT_MAX],
        retry_after_s=float(min(seconds, 60)) if isinstance(seconds, int) and seconds > 0 else 0.0,
    )


def finding_of(failure: Failure, where: str) -> Finding:
    """What to tell: the remedy is the operator's where there is one."""
    kept = "the pods that were found before stay, and it is tried again"
    remedies = {
        400: ("bad_request", "check the label selectors"),
        401: ("unauthorized", "the API server does not know our token: check the kubeconfig or the service account"),
        403: ("forbidden", "allow it: deploy/kubernetes/rbac.yaml grants exactly what is needed"),
        404: ("not_found", "check the server's address in the kubeconfig"),
        429: ("overloaded", kept),
    }
    if failure.reason == CONFIG:
        return Finding(SOURCE, where, "config", f"{failure.message}; {kept}")
    if failure.reason == INTERNAL:
        return Finding(SOURCE, where, "internal", f"an internal error: {failure.message}; {kept}")
    if failure.status == 0:
        return Finding(SOURCE, where, "unreachable", f"the API server cannot be reached ({failure.message}); {kept}")
    reason, remedy = remedies.get(failure.status, ("failing", kept))
    return Finding(SOURCE, where, reason, f"{failure.status} {failure.reason}: {failure.message}; {remedy}")
