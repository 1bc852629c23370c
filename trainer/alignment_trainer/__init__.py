"""The four stages of an alignment run: prepare, train, evaluate, publish."""
