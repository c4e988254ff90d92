"""Who may do what: tokens, users, and grants as a Role's rules have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hmac import compare_digest

from kvsync.testing.apiserver.refusals import Refusal

ADMIN = "kubernetes-admin"
ANONYMOUS = "system:anonymous"
EVERYWHERE = "*"


@dataclass(slots=True)
class Access:
    """The users by token, and what is granted: (user, namespace, resource, verb), with `*` for all."""

    tokens: dict[str, str] = field(default_factory=dict)
    grants: set[tuple[str, str, str, str]] = field(default_factory=set)

    def user(self, headers: Mapping[str, str]) -> str:
        """Who asks; a token that nobody has is a 401, and none at all is anonymous. The admin may act as others."""
        kind, _, token = headers.get("Authorization", "").partition(" ")
        if not token:
            return ANONYMOUS
        user = next((user for known, user in self.tokens.items() if compare_digest(known, token)), None)
        if kind != "Bearer" or user is None:
            raise Refusal(401, "Unauthorized")
        acts_as = headers.get("Impersonate-User")
        if acts_as is not None and user != ADMIN:
            raise Refusal(403, f'users "{acts_as}" is forbidden: User "{user}" cannot impersonate resource "users"')
        return acts_as or user

    def grant(self, user: str, namespace: str, resources: Iterable[str], verbs: Iterable[str]) -> None:
        """Allow the verbs on the resources in a namespace."""
        self.grants |= {(user, namespace, resource, verb) for resource in resources for verb in verbs}

    def revoke(self, user: str) -> None:
        """Take everything from a user."""
        self.grants = {grant for grant in self.grants if grant[0] != user}

    def check(self, user: str, verb: str, resource: str, namespace: str, name: str = "") -> None:
        """Refuse what is not granted; namespace `""` is the cluster's scope."""
        if user == ADMIN:
            return
        if any((user, where, resource, verb) in self.grants for where in (namespace, EVERYWHERE)):
            return
        scope = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        which = f'{resource} "{name}"' if name else resource
        raise Refusal(
            403,
            f'{which} is forbidden: User "{user}" cannot {verb} resource "{resource}" in API group "" {scope}',
            details={"kind": resource, **({"name": name} if name else {})},
        )
