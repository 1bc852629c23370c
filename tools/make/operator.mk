##@ Operator

faults: $(STAMP) ## Every single fault at every call and event, then a process killed 25 times
	$(PYTEST) -n 2 --dist worksteal -q tests/faults

soak: $(STAMP) ## The operator's process killed 1,000 times at random moments
	ALIGNMENT_SOAK_KILLS=1000 $(PYTEST) -q -s tests/faults/test_killed.py

bench-operator: $(STAMP) ## Latency, memory, cold start and scrape against a real API server, as a table (5 minutes)
	$(BIN)/python -m tools.bench.operator

.PHONY: faults soak bench-operator
