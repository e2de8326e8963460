"""The store of large values: names, files, mappings and pages."""
