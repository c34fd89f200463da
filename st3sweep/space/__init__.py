"""Search spaces: read them, check them, and draw their points."""
