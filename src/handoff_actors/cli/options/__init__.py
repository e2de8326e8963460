"""Options that belong together, each group of them as one value for its command."""
