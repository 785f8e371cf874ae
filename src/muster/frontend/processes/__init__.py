"""Several processes that serve as one frontend: one port, one view of what they do."""
