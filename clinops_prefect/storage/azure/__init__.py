"""Azure Blob Storage as a backend."""
