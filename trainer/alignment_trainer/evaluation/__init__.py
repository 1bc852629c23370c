"""Stage evaluate: metrics, judges, statistics, ledger, report."""
