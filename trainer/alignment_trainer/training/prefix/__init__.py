"""The prefix-shared forward: what both answers of a pair have in common is computed once, exactly.

Reading order: packing (what is laid out where), attention, head, adapter and products (the same arithmetic, faster on
CPU), forward (the seam to TRL), architectures (where it is exact), selfcheck (that it still is).
"""
