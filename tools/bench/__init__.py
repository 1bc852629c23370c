"""Benchmarks: each one prints a table that the documentation keeps, with the command that makes it."""
