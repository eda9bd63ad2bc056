"""Storage of bytes: the `Backend` template, its helpers, and one backend for each service."""
