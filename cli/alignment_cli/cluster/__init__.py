"""Runs on a cluster, reached through the person's own ``kubectl`` and its credentials."""
