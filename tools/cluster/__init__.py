"""A real Kubernetes for tests and for trying out: named by the user, from kind, or started from binaries."""
