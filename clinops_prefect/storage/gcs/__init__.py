"""Cloud Storage as a backend."""
