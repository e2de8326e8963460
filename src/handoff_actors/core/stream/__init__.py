"""Decide about streams: where an item goes next, how a lost worker's items go on, and when results are handed out."""
