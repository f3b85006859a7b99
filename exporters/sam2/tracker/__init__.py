"""The contracts that follow objects through a video."""
