"""
One engine's frames, put in order and handed to the index: the room where ZeroMQ lives.

    frames        a multipart message to (number, payload)
    sequence      the order of one engine's frames, decided without sockets; `life` and `answers` do its steps
    capture       frames to a file and back; `redact` hides what they say, `offline` applies them to an index
    subscriber    the sockets of all engines, and the one thread that serves them
"""
