"""
Sequence, index and snapshots in one process, under a clock moved by hand and an adversary drawn from a seed.

    history    what happens, as plain values; drawn from a seed by `adversary`
    engine     an engine with a real cache, which says what it holds after every batch
    wires      what lies between the two: frames and news on their way, a question and its answer
    world      plays a history: the engines, the wires, and a daemon's half made of `Sequence` and `Index`
    checker    holds the daemon's half against the truth, after every step
    settle     lets faults cease, and says who is not well again in the stated time
    shrink     makes a history that fails as short as it can be
    sabotage   worlds broken on purpose: what the checker must catch
    campaign   many seeds on many cores, for `python -m kvsync.testing.faults`
"""
