"""Nothing to test: there are no packages."""
