"""Files that are whole or absent, and files that only grow."""
