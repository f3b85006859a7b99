"""Benchmarks side by side with peers: `invoke --list bench` names them."""
