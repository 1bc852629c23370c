"""The contract: resources, stage requests and results, gate decision."""
