"""The feature contracts: one graph from a picture to its tokens."""
