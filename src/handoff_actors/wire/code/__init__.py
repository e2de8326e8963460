"""Code by value: functions, classes and modules of users that others can't import, and objects that pickle alone can't handle."""
