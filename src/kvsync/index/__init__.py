"""The truth, in Python: which engine holds which blocks, and how far that may be believed."""

from kvsync.index.index import LAG_BOUNDS_S, Index
from kvsync.index.matches import Matches
from kvsync.index.record import Lag, MediumRecord, Record
from kvsync.index.saving import Hold
from kvsync.index.snapshot import Contents, Row, SnapshotFile
from kvsync.index.tokens import Tokens

__all__ = [
    "LAG_BOUNDS_S",
    "Contents",
    "Hold",
    "Index",
    "Lag",
    "Matches",
    "MediumRecord",
    "Record",
    "Row",
    "SnapshotFile",
    "Tokens",
]
