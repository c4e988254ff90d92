"""
The tests, mirroring the rooms: unit, integration (two rooms that meet), e2e (a story).

A regular package, so that `tests.` always means this folder, whatever else is installed; the folders below need no
`__init__.py`.
"""
