"""How a job is run: as a process, or in a container."""
