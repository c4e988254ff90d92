"""
Pods as a Kubernetes API server tells of them.

    api        the official client: one page of a list, the lines of one watch
    configuration  which server, who we are to it, and which namespace is meant
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
