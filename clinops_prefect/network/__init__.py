"""One client per process, the endpoints it may speak to, and what goes wrong on the way."""
