"""Generates ``crds/`` from the contract models. Run ``make crds`` after changing ``api/``."""
