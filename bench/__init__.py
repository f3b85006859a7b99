"""Benchmarks side by side with peers: `invoke bench --list`."""
