"""What is decided: pure machines that take an event and a time and return effects."""
