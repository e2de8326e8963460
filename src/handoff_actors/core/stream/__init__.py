"""What is decided about streams: which item goes where next, what becomes of a worker's loss, and what is out."""
