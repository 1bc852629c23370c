##@ Evidence

bench-gate: $(STAMP) ## False-publish rates, power, coverage and tricks refused (about an hour on one core)
	$(BIN)/python -m tools.bench.gate
	$(BIN)/python -W ignore -m tools.bench.gate_models

bench-frontier: $(STAMP) ## Share of the possible reward that training reaches, in an exactly solvable world
	$(BIN)/python -W ignore -m tools.bench.frontier

.PHONY: bench-gate bench-frontier
