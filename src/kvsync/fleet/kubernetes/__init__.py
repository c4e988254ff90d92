"""
Pods as a Kubernetes API server tells of them.

    api        the official client, and the only file that imports it: one page of a list, the lines of one watch
    reflector  what to ask next, given what came: list, watch, begin anew; pure
    watcher    a thread that asks, waits, and asks again, for one namespace and one selector
    reading    a pod as the API has it -> a Pod, or what is wrong with it; pure
    labels     the labels and annotations that mean something to us
    source     all watchers as one source of pods, on the event loop
"""

from __future__ import annotations

from kvsync.fleet.kubernetes.options import KubernetesOptions
from kvsync.fleet.kubernetes.source import KubernetesPods

__all__ = ["KubernetesOptions", "KubernetesPods"]
