"""The stages: pure steps of work in an environment; they never import the orchestrator."""
