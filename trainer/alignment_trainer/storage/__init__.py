"""Objects by URI: one interface, one file per store."""
