"""Models, fakes and checkers for tests, ours and others': imports every room, imported by none."""
