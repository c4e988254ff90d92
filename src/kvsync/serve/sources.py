"""
The sources of pods that the settings ask for, as one.
"""

from __future__ import annotations

from kvsync.errors import ConfigError
from kvsync.fleet import CombinedPods, DnsPods, FilePods, PodSource, StaticPods
from kvsync.serve.settings import Settings


def source_of(settings: Settings) -> PodSource:
    """Make it; `ConfigError` where there is none. Where two name one pod, the order here says who counts."""
    sources: list[PodSource] = []
    if settings.pods:
        sources.append(StaticPods(settings.pods))
    if settings.pods_file is not None:
        sources.append(FilePods(settings.pods_file))
    sources += [DnsPods(pattern) for pattern in settings.pods_dns]
    if settings.kubernetes:
        sources.append(_kubernetes(settings))
    if not sources:
        raise ConfigError(
            "there are no pods; give --pod name=a,http=http://HOST:PORT,model=M at least once, or --pods-file,"
            " --pods-dns or --kubernetes"
        )
    # What is named by flags alone is all that will ever come, and its names and addresses are checked.
    only = sources[0]
    return only if len(sources) == 1 and isinstance(only, StaticPods) else CombinedPods(sources)


def _kubernetes(settings: Settings) -> PodSource:
    from kvsync.fleet.kubernetes import KubernetesOptions, KubernetesPods

    return KubernetesPods(
        KubernetesOptions(
            namespaces=settings.kubernetes_namespaces,
            selectors=settings.kubernetes_selectors or KubernetesOptions().selectors,
            kubeconfig=settings.kubeconfig,
            context=settings.kubernetes_context,
            bind_host=settings.kubernetes_bind_host,
        )
    )
