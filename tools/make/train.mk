##@ Training

bench-train: $(STAMP) ## TRL default, TRL tuned, ours: seconds, tokens, memory, losses (about an hour on two cores)
	$(BIN)/python -W ignore -m tools.bench.train $(BENCH_TRAIN)

test-gpu: $(STAMP) ## On a machine with a GPU: exactness there, both engines, memory that does not do
	ALIGNMENT_GPU_REQUIRED=1 $(PYTEST) -n 4 --dist worksteal tests/gpu

.PHONY: bench-train test-gpu
