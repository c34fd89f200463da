"""What every folder may use: errors, YAML with line numbers, tables of text, files."""
