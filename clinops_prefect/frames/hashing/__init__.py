"""Hashes frames, and values that contain frames, by content.

content   hashes any value: pandas, NumPy, polars, Arrow, and Python's containers
arrow     hashes an Arrow column
"""
