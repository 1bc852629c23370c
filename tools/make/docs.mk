##@ Documentation

docs: $(STAMP) ## Build the documentation into site/, strictly
	$(BIN)/python -m tools.docsgen --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: $(STAMP) ## Show the documentation while you write it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

docs-pages: $(STAMP) ## Generate the pages that repeat the code
	$(BIN)/python -m tools.docsgen

dashboards: $(STAMP) ## Generate the Grafana dashboards of the chart
	$(BIN)/python -m tools.dashboards

.PHONY: docs docs-serve docs-pages dashboards
