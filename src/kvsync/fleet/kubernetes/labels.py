"""
The labels and annotations that mean something to us.

    model.aibrix.ai/name               the model (label, AIBrix)
    model.aibrix.ai/port               the HTTP port (label, AIBrix)
    model.aibrix.ai/kv-events-enabled  "true": the pod publishes events (label, AIBrix); else it has none
    model.aibrix.ai/lora-id            an adapter that is loaded (label, AIBrix)
    llm-d.ai/inference-serving         found by it (label, llm-d); it names no model: the pod is asked

    kvsync.io/...                      annotations; each counts before what a label says

Without a port for replays they are asked for at the port after the last rank's events, which is 5558 for one rank.
Under another selector than these, a pod is taken to publish events unless kvsync.io/events says "false".
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "kvsync.io/"

MODEL: Final = "model"
HTTP_PORT: Final = "http-port"
EVENTS: Final = "events"
EVENTS_PORT: Final = "events-port"
REPLAY_PORT: Final = "replay-port"
TOPIC: Final = "topic"
RANKS: Final = "ranks"
BIND: Final = "bind"
LORAS: Final = "loras"
SCHEME: Final = "scheme"
TOKENIZER_PREFIX: Final = "tokenizer-"
TOKENIZER: Final = "tokenizer"

KNOWN: Final = (MODEL, HTTP_PORT, EVENTS, EVENTS_PORT, REPLAY_PORT, TOPIC, RANKS, BIND, LORAS, SCHEME, TOKENIZER)

AIBRIX_MODEL: Final = "model.aibrix.ai/name"
AIBRIX_PORT: Final = "model.aibrix.ai/port"
AIBRIX_EVENTS: Final = "model.aibrix.ai/kv-events-enabled"
AIBRIX_LORA: Final = "model.aibrix.ai/lora-id"

HTTP_PORT_DEFAULT: Final = 8000
EVENTS_PORT_DEFAULT: Final = 5557
