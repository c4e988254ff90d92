"""Who is there: the pods, their addresses and the models they serve."""

from __future__ import annotations

from kvsync.fleet.combined import CombinedPods
from kvsync.fleet.dns import DnsPods
from kvsync.fleet.file import FilePods
from kvsync.fleet.finding import Finding
from kvsync.fleet.pod import Pod, check_apart, check_pods, parse_pod, parse_pods, pod_of
from kvsync.fleet.source import PodChange, PodSource, difference
from kvsync.fleet.static import StaticPods

__all__ = [
    "CombinedPods",
    "DnsPods",
    "FilePods",
    "Finding",
    "Pod",
    "PodChange",
    "PodSource",
    "StaticPods",
    "check_apart",
    "check_pods",
    "difference",
    "parse_pod",
    "parse_pods",
    "pod_of",
]
