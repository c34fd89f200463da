"""Packs: every image of a dataset decoded once, in files that are mapped into memory."""
