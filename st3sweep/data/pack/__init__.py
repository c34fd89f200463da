"""Packs: every image of a dataset decoded once, in files mapped into memory."""
