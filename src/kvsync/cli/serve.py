"""`kvsync serve`: the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kvsync.cli.texts import check_text


def command(
    pod: Annotated[
        list[str] | None,
        typer.Option(
            "--pod",
            metavar="name=N,http=URL,model=M[,...]",
            help="A pod to route to; repeat it. More keys: events=tcp://HOST:PORT, replay=tcp://HOST:PORT, ranks=2,"
            " topic=T, bind=1, loras=a1+a2. Without events, a pod is routed to by a record of our own picks.",
        ),
    ] = None,
    pods_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A TOML or YAML file that lists pods; its changes are taken over while it runs."
        ),
    ] = None,
    pods_dns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="name=N,http=http://NAME:PORT,...",
            help="A pod for each address that NAME has, such as a headless service; written like --pod; repeat it.",
        ),
    ] = None,
    kubernetes: Annotated[
        bool | None, typer.Option("--kubernetes", help="Find pods by their labels through the Kubernetes API.")
    ] = None,
    kubernetes_namespace: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A namespace to look in (our own); '*' for all; repeat it."),
    ] = None,
    kubernetes_selector: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABELS",
            help="A label selector of pods to look for (those of AIBrix and of llm-d); repeat it: any of them counts.",
        ),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="How to reach the cluster (from inside it, else KUBECONFIG or ~/.kube/config)."
        ),
    ] = None,
    curve_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file with our secret CURVE key, mode 0600; streams are then encrypted."),
    ] = None,
    curve_server_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with the public CURVE key that all engines have.")
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(help="Where to answer requests (127.0.0.1:8090); port 0 takes a free one.", metavar="HOST:PORT"),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="How pods are picked (cost): cost, round-robin, least-loaded, random, prefix, consistent-hash."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file of settings; flags and KVSYNC_* variables count before it.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with the bearer token that requests must bring; needed where --listen is not loopback."
        ),
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option(help="The most memory the index may take, as in 2GiB (no limit).", metavar="BYTES")
    ] = None,
    prefill_rate: Annotated[
        float | None, typer.Option(help="Tokens a second that an engine prefills (learned).", metavar="TOKENS")
    ] = None,
    snapshot_dir: Annotated[
        Path | None,
        typer.Option(
            help="A folder where the index is kept, so that the next start goes on from it (none); it holds a secret.",
            metavar="DIR",
        ),
    ] = None,
    snapshot_interval: Annotated[
        float | None,
        typer.Option(help="How often a snapshot is made there (60); also at the end.", metavar="SECONDS"),
    ] = None,
    bootstrap: Annotated[
        list[str] | None,
        typer.Option(
            help="Another kvsync to take a snapshot from at the start, where there is none of our own that is young;"
            " repeat it.",
            metavar="URL",
        ),
    ] = None,
    bootstrap_token_file: Annotated[
        Path | None, typer.Option(help="A file with that daemon's token (our own).", metavar="FILE")
    ] = None,
    drain_seconds: Annotated[
        float | None,
        typer.Option(
            help="How long running answers may take to end after SIGTERM or SIGINT (30); the daemon ends with the last"
            " of them, or at once at a second signal.",
            metavar="SECONDS",
        ),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error (info).")] = None,
) -> None:
    """
    Follow the caches of a fleet and send each request where its prefix lies.

    Answers OpenAI's /v1/chat/completions and /v1/completions by passing them on to the best pod, and says where a
    prompt would go at /v1/score and /v1/route. Once requests are answered, prints one line of JSON with the address.
    Every flag is also a variable (KVSYNC_LISTEN, KVSYNC_PODS with spaces between pods) and a key of the --config file.

    Example: kvsync serve --pod name=a,http=http://127.0.0.1:8000,events=tcp://127.0.0.1:5557,model=m
    """
    import asyncio
    import json

    from kvsync.serve.app import serve
    from kvsync.serve.logs import set_up_logging
    from kvsync.serve.settings import load_settings

    for one in pod or ():
        check_text("--pod", one)
    flags: dict[str, Any] = {
        "pods": pod,
        "curve_key": curve_key,
        "curve_server_key": curve_server_key,
        "pods_file": pods_file,
        "pods_dns": pods_dns,
        "kubernetes": kubernetes,
        "kubernetes_namespaces": kubernetes_namespace,
        "kubernetes_selectors": kubernetes_selector,
        "kubeconfig": kubeconfig,
        "listen": listen,
        "policy": policy,
        "token_file": token_file,
        "max_bytes": max_bytes,
        "prefill_rate": prefill_rate,
        "snapshot_dir": snapshot_dir,
        "snapshot_interval": snapshot_interval,
        "bootstrap": bootstrap,
        "bootstrap_token_file": bootstrap_token_file,
        "drain_seconds": drain_seconds,
        "log_level": log_level,
    }
    settings = load_settings(flags, config=config)
    set_up_logging(settings.log_level)

    def ready(url: str) -> None:
        print(json.dumps({"ready": True, "http": url}), flush=True)

    asyncio.run(serve(settings, ready))
