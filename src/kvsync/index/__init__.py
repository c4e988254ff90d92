"""The truth, in Python: which engine holds which blocks, and how far that may be believed."""
