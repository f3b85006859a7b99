"""The DINOv2 family: architectures, position tables and the contracts of its features."""
