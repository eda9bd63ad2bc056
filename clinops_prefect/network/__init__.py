"""The client cache, the check of endpoints, and errors of the network."""
