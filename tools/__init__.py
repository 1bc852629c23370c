"""Tools of the project itself: generators, clusters for trying out, benchmarks. Never imported by the product."""
