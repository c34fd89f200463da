"""Tables, fronts and plots of runs. Never imports torch or Ray."""
