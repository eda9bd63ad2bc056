"""`columns=` and `filters=`.

selection   what a caller asked of one artifact
filters     the filters as one pyarrow expression
literals    a compared value in the type of its column
"""
