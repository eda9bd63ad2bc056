"""An artifact as stored objects: how each format is written, read whole or in part, and described.

parquet and csv have the same functions, so that the store need not know which it has.
"""
