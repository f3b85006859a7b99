"""For all tests: Ctrl-C counts, even where they were started in the background."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
