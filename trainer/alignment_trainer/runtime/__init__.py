"""What every stage process shares: request in, progress out, result last, signals."""
