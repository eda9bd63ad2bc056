"""The backend for Azure Blob Storage."""
