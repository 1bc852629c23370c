##@ Training

bench-train: $(STAMP) ## TRL default, TRL tuned, ours: seconds, tokens, memory, losses (about an hour on two cores)
	$(BIN)/python -W ignore -m tools.bench.train $(BENCH_TRAIN)

.PHONY: bench-train
