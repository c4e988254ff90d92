"""Match to score to pick: pure decisions, no I/O, no await."""
