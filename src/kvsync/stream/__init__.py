"""One engine's frames, put in order and handed to the index: the room where ZeroMQ lives."""
