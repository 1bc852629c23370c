"""Model URIs: resolve, pin, download, digest; adapters and aliases."""
