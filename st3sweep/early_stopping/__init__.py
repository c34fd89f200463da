"""Early stopping: the rules, the rankings they use, and replays of finished runs."""
