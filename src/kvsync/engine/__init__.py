"""A simulated engine: real sockets, real eviction, no GPU."""
