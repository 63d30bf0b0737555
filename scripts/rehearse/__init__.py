"""A rehearsal of a run at the paper's scale, without its data and without a GPU."""
