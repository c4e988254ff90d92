"""
A Kubernetes API server's double: a real HTTPS server, limited to what a client of pods can observe, and faithful there.

    store         objects, versions, and the history that watches read; pure
    pods          what a pod must be, and what becomes of one that is written or deleted; pure
    selectors     label and field selectors; pure
    patches       the three kinds of patch; pure
    refusals      errors as the API has them: `Status` objects
    access        who may do what
    faults        what a test makes it do, and the ways in which it can be made unfaithful
    collections   lists: versions, pages, tokens
    watching      watches: events, bookmarks, initial events
    handlers      requests -> the above -> answers
    certificates  a CA and a kubeconfig, made at start
    server        all of it, in this process, for as long as a context lasts
    process       the same in a process of its own, with a door for faults

`tests/conformance` holds it to what a real API server does: the same file runs against either.
"""
