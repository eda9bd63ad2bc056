"""Pages for people: the quality of one date, and the drift between two."""
