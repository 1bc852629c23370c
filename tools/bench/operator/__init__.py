"""Measures the operator against a real API server: ``make bench-operator``."""
