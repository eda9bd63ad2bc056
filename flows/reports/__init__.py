"""Pages for readers: the quality of one date, and the drift between two dates."""
