"""What is shown while a sweep runs: a live table, or JSON events."""
