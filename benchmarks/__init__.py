"""
How fast and how small kvsync is: an asv suite, a file per flow. `nox -s bench` runs it; README.md here says how.

Seeded data is made outside the clock, and every benchmark checks its answer: a wrong answer fails, however fast it was.
"""
