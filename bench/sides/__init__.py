"""The programs that a bench times: they run in an environment, not on the host."""
