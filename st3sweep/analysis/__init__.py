"""Analyse runs: tables, fronts and plots. Never imports torch or Ray."""
