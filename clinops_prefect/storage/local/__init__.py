"""The backend for a directory."""
