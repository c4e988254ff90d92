"""
The daemon's snapshots: kept while it runs, loaded when it starts, given to siblings.

    folder      where they lie, and what of it is believed
    keeper      one every so often, in a thread
    begin       what to start with: our own, a sibling's, or nothing; `siblings` asks those
    inherited   loaded records that wait for their engines
    giving      one to a sibling
"""
