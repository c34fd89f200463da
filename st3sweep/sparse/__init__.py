"""Sparse methods: plain functions on a model's conv and linear weights. No training loop, no Ray."""
