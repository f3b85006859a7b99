"""Content-addressed files, and a record for each key."""
