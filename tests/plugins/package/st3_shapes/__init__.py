"""A package of a user, found by st3sweep through its entry point."""
