##@ Data

bench-data: $(STAMP) ## Time and memory of prepare for 10k, 100k and 1M events from S3, against plain datasets
	$(TEST_ENV) PYTHONPATH=tests:. $(BIN)/python -m tools.bench.data

fuzz-data: $(STAMP) ## Feed the loader arbitrary bytes for FUZZ_SECONDS (300); cases that fail go to tests/data/fuzz
	$(TEST_ENV) PYTHONPATH=tests:. $(BIN)/python -m tools.bench.fuzz_data --seconds $(or $(FUZZ_SECONDS),300)

.PHONY: bench-data fuzz-data
