"""For tests and for a first try: what stands in for a cloud on your own machine. Each module says what it needs."""
