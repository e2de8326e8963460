"""The process that this is: its signals, descriptors and interpreter, and the files that it trusts."""
