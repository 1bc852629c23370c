"""Builders, fakes at the edges, and servers that tests share."""
