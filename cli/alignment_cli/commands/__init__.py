"""One module per group of verbs. A command parses, calls and prints; what it decides elsewhere is decided there."""
