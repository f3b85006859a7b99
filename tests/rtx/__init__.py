"""Tests of engines: they run on the Python of the environment `rtx`."""
