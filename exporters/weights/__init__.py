"""Where the values of a network's tensors come from."""
