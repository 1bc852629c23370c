"""The pure core: from what was observed to what to do. No framework, no client, no clock.

Read in this order: ``observed`` (input), ``actions`` (output), ``plan`` (the state machine), ``draft`` (how
a status is built), ``outcome`` (what an ended attempt means). Both executors call :func:`plan.plan`.
"""
