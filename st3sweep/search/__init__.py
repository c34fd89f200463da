"""The search: proposes points with Optuna and is told how they ended. The only importers of Optuna."""
