"""Pinned package sets: what they are, and how they are installed."""
