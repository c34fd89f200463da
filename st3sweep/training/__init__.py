"""The training core: plain torch, no Ray. The Ray worker and ``st3sweep train`` both call ``loop.fit``."""
