"""How far graphs are from what they should compute, and what that is worth."""
