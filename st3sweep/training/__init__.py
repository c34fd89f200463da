"""Train one trial in plain torch, without Ray: the Ray worker and ``st3sweep train`` both call ``loop.fit``."""
