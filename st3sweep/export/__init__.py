"""Export trained sparse models to files for deployment."""
