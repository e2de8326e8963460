"""What is said: every message on every socket, and how it becomes bytes."""
