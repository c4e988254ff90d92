"""
Who has a name and an address when several claim it: pure, over everything that all sources say.

The first keeps both, in the order in which sources were given and in which each lists its pods; the other is left out
with a finding until the first goes. A pod that is on its way out (`leaving`) yields to one that is not: in a cluster
the address of a pod that has ended is soon another's.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvsync.fleet.finding import Finding
from kvsync.fleet.pod import Pod

SOURCE = "fleet"


def settle(claims: Iterable[Pod]) -> tuple[dict[str, Pod], list[Finding]]:
    """Give those who have what they claim, by name, and a finding for each of the others."""
    pods: dict[str, Pod] = {}
    owners: dict[str, str] = {}
    findings: list[Finding] = []
    for pod in sorted(claims, key=lambda pod: pod.leaving):  # a stable sort: else the order stays
        endpoints = pod.endpoints
        taken = next((endpoint for endpoint in endpoints if endpoint in owners), None)
        if pod.name in pods:
            text = "two sources name this pod; the first counts: give each pod to one source"
            findings.append(Finding(SOURCE, pod.name, "name_taken", text))
        elif taken is not None:
            if not pod.leaving:
                text = f"claims {taken}, which is {owners[taken]}'s, and is left out till that goes; give each its own"
                findings.append(Finding(SOURCE, pod.name, "endpoint_taken", text))
        else:
            pods[pod.name] = pod
            owners |= dict.fromkeys(endpoints, pod.name)
    return pods, findings
