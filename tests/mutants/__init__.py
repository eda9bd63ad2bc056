"""Are the tests able to fail? `python -m tests.mutants` changes one thing in the code at a time, and runs them."""
