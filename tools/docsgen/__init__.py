"""Generates the pages of ``docs/`` that only repeat the code. Run ``make docs-pages`` after changing what they repeat."""
