"""kvsync beside its peers: the same work, in one run, each answer checked."""
