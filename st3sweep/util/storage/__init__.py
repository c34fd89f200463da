"""Write files atomically, and append to files."""
