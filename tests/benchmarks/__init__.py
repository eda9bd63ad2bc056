"""Benchmarks against what one would use instead: `make bench`, written to docs/explanation/benchmarks.md."""
