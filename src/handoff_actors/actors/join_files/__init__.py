"""Members that find one another by files in a directory that all their machines share."""
