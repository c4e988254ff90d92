"""
How long a test waits for what must come: a test is no stopwatch.

Far longer than any machine stalls, and less than pytest's own limit, so that what never comes is told by the test that
waits for it. Where running out of time is what is tested, the time is the test's own: short, or by a clock of its own.
"""

from __future__ import annotations

from typing import Final

PATIENCE_S: Final = 120.0
