"""Dataset formats, one module each; importing this package registers them."""

from st3sweep.data.formats import cifar, digits, image_folder, image_parquet

__all__ = ["cifar", "digits", "image_folder", "image_parquet"]
