"""Keep the state of a sweep: what a run has done and still has to do."""
