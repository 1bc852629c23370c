"""`align`: embedded runs, the kubectl plugin, data checks, reports."""
