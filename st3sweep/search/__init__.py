"""The search: propose points with Optuna and report their results to it. The only importers of Optuna."""
