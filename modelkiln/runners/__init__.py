"""How a job is run: as a process, or in a container.

A runner is a module of this package that says what it is in `RUNNER`, and a name here; nothing else
has to be told of it. This file is read at every start, so it holds names alone.
"""

# From the one that asks for the least to the one that promises the most; `auto` takes the last one
# that can run what is to be done. Records are looked up in this order.
NAMES = ("local", "docker")
AUTO = "auto"
