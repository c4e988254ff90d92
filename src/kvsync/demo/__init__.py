"""The demo: a simulated fleet, the daemon, and the same chat traffic under several policies, held against the truth."""
