"""Stage prepare: from sources to a frozen, split, leak-checked snapshot. No torch."""
