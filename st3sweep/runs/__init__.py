"""The folder of a run: ledger, tables, provenance."""
