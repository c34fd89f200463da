"""``python -m st3sweep``: the same as the command ``st3sweep``."""

from st3sweep.cli import main

main()
