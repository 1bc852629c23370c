##@ Evidence

bench-gate: $(STAMP) ## False-publish rates, power, coverage and tricks refused (about an hour on one core)
	$(BIN)/python -m tools.bench.gate
	$(BIN)/python -W ignore -m tools.bench.gate_models

bench-frontier: $(STAMP) ## Share of the possible reward that training reaches, in an exactly solvable world
	$(BIN)/python -W ignore -m tools.bench.frontier

report-schema: $(STAMP) ## Write docs/report.schema.json, the JSON schema of report.json
	$(BIN)/python -m tools.reportschema

.PHONY: bench-gate bench-frontier report-schema
