"""A family for tests of the orchestrator; its stages shadow the real ones."""
