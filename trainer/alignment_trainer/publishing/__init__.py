"""Stage publish: versioned, checksummed model and a conditional alias."""
