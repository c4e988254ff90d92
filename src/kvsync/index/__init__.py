"""The truth, in Python: which engine holds which blocks, and how far that may be believed."""

from kvsync.index.index import Index
from kvsync.index.matches import Matches
from kvsync.index.record import MediumRecord, Record
from kvsync.index.tokens import Tokens

__all__ = ["Index", "Matches", "MediumRecord", "Record", "Tokens"]
