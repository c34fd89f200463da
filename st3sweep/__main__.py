"""Run the command ``st3sweep`` with ``python -m st3sweep``."""

from st3sweep.cli import main

main()
