"""Dataset formats, one module each; importing this package registers them."""

from st3sweep.util.submodules import import_submodules

import_submodules(__name__, __path__)
