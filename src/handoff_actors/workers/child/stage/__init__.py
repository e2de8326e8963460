"""The stages of streams in a worker: one long function calls the code of a stage for item after item."""
