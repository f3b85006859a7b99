"""`invoke doctor`: what this machine can build."""
