"""The backend for S3."""
