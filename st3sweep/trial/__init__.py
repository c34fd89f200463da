"""The settings of one trial: everything that determines its results, validated once, frozen, hashed to a digest.

Field names are those of a search space's ``trial`` part. Times are fractions of training, or ``{epochs: n}``. Defaults
that belong to a published recipe are in ``recipes.py``.
"""
