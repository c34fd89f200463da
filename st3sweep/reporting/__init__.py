"""Report a sweep while it runs: live table, JSON events, loggers."""
