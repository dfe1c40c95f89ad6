"""Measurements; each prints a table with a ratio against a peer, taken in the same run."""
