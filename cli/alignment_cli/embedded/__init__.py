"""Runs on this machine: the resource in a state folder, the stages as subprocesses, the operator's own plan.

``state`` keeps runs and attempts as files, ``process`` starts and stops one stage, ``observe`` turns files
and processes into what the plan reads, ``executor`` loops: observe, plan, act, write.
"""
