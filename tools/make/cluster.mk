##@ Cluster (the context in ALIGNMENT_CLUSTER_CONTEXT, else kind where Docker answers, else from binaries as root)

cluster-up: $(STAMP) ## Start a Kubernetes to try things on; prints how to reach it
	$(BIN)/python -m tools.cluster up

demo-cluster: $(STAMP) ## Images, chart, S3 server and a real run, watched to its verdict
	$(BIN)/python -m tools.cluster.demo

test-cluster: $(STAMP) ## The failure scenarios on a real Kubernetes; always takes it down at the end
	tools/cluster/test.sh env $(PYTEST) -n 3 --dist load --maxschedchunk 1 --durations=15 tests/cluster

cluster-down: $(STAMP) ## Stop the cluster; nothing is left but the caches in ~/.cache/alignment-operator
	$(BIN)/python -m tools.cluster down

chart-golden: $(STAMP) ## Record what the chart renders by default, after a change that is meant
	$(BIN)/python -m tools.cluster.golden

.PHONY: cluster-up demo-cluster test-cluster cluster-down chart-golden
