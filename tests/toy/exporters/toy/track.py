"""The family's part of the toy's tracking."""

GREETING = "here I am"
