"""The store blocks, one module for each service."""
