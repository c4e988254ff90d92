"""
The limits and times of this room, as plain values. Reading them from files or the environment is the daemon's job.
"""

from __future__ import annotations

from dataclasses import dataclass, field

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class SequenceOptions:
    """
    How long and how much one engine's stream waits for what is missing.

    `waiting_frames_max` and `waiting_bytes_max` bound what is kept above a hole. A replay is given up
    `replay_timeout_s` after its last frame, and asked for `replay_attempts` times in a row without any
    progress. A stream that is silent for `probe_idle_s` at the most is probed. `digests_max` numbers that
    may come a second time are remembered.
    """

    waiting_frames_max: int = 4_096
    waiting_bytes_max: int = 16 * MIB
    replay_timeout_s: float = 3.0
    replay_attempts: int = 2
    probe_idle_s: float = 10.0
    digests_max: int = 4_096


@dataclass(frozen=True, slots=True)
class Curve:
    """
    ZeroMQ's encryption: our secret key, and the public key that every engine must prove to have the other half of.
    """

    secret: bytes = field(repr=False)
    server: bytes


@dataclass(frozen=True, slots=True)
class SubscriberOptions:
    """
    The sockets of all engines and the thread that serves them.

    `frame_bytes_max` is the largest frame that is received at all. `queue_frames_max` frames of an engine wait inside
    libzmq, and fewer once it has sent such that so many would be more than `queue_bytes_max`; at most `burst_frames`
    frames or `burst_bytes` bytes of one engine are handled before the others have their turn. `engines_max` sizes
    libzmq's socket table. At most `replays_max` replays run at once, and those of first contacts begin within
    `replay_spread_s` seconds, by lot. An engine that goes on sending more than `frames_per_s` is read no faster, once
    it has used up `frames_burst`, where each 4 KiB count as one frame more; None reads whatever comes.
    While very many batches come from one here and one there, a round begins so long after the one before that several
    have gathered, `gather_s` at most, which saves processor time. The more turns a second, the longer: 4 ms at 2,500,
    40 ms at 25,000.
    Beyond 100 engines `probes_per_s` keeps idle probes apart. `seed` makes the spreading of times reproducible.
    With `curve` only engines that have the key are heard.
    """

    sequence: SequenceOptions = field(default_factory=SequenceOptions)
    frame_bytes_max: int = 64 * MIB
    queue_frames_max: int = 2_000
    queue_bytes_max: int = 128 * MIB
    burst_frames: int = 64
    burst_bytes: int = 4 * MIB
    frames_per_s: float | None = 20_000.0
    frames_burst: int = 100_000
    reconnect_first_s: float = 0.2
    reconnect_max_s: float = 5.0
    heartbeat_s: float | None = 5.0
    engines_max: int = 4_096
    replays_max: int = 16
    replay_spread_s: float = 0.5
    probes_per_s: float = 20.0
    tick_s: float = 0.1
    gather_s: float = 0.05
    io_threads: int = 1
    seed: int | None = None
    curve: Curve | None = None
