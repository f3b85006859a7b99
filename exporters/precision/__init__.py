"""Graphs in lower precision: what is quantized, with which scales, and how it is written."""
