"""Measurements of modelkiln beside the tools that it replaces, on this machine."""
