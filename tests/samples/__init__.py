"""Every code sample of the documentation, found and executed: `make samples`."""
