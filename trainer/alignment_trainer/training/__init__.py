"""Stage train: optional SFT warm start, then DPO."""
