"""The ends of functions and of the run, and losses: what they mean, and what follows."""
