"""The contracts for still images."""
