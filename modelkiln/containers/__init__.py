"""Container engines: images made from the locks, and stages run in them."""
