"""What each command does; the arguments are in cli/."""
