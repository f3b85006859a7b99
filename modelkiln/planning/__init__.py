"""From targets to steps, and from steps to keys."""
