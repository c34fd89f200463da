"""The sparse-training core: plain functions on a plain model's conv and linear weights. No training, no Ray."""
