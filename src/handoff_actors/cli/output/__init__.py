"""The results and errors of commands, as text and as JSON."""
