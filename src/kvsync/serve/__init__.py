"""The daemon: composition root, HTTP API and proxy."""
