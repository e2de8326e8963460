"""Our speed, next to others', on the same machine in the same run."""
