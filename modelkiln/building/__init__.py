"""One build, from targets to published files."""
