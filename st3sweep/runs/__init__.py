"""Read and write a run's folder: ledger, tables, provenance."""
