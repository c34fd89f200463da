"""A search space: reading it, checking it, its points."""
