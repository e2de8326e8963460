"""A run to which functions are added while it goes on, by its app and by its functions."""
