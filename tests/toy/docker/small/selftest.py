"""Fails where one of the two packages cannot be used."""

import antlr4
import mdurl

print(antlr4.__name__, mdurl.decode("%41"))
