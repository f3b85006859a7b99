"""Plain data to a page or a line of text."""
