"""What `invoke --list` shows: each task is a few lines that call one function of a command.

The bodies import what they call, so that a task starts as fast as its own work allows.
"""
