"""The pure core: from what was observed to what to do. No framework, no client, no clock."""
