"""Early stopping: the rules, the ranking they use, and replays of finished runs."""
