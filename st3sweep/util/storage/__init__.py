"""Write files atomically, append to files, and do both in a run's place: a folder or an object store."""
