"""Applies `columns=` and `filters=`.

selection   the fields and rows that a caller asked for
filters     converts filters to one pyarrow expression
literals    converts a compared value to the type of its column
"""
