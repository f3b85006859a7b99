"""Pictures and videos, what is drawn on them, and what users point at in them."""
