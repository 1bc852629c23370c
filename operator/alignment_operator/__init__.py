"""The operator: watch, queue, observe, plan, act."""
