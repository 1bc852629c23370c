"""The demo: a made-up clinic, a small model that writes its notes, and a clinician who edits them."""
