"""Frames, and values that contain frames, hashed by content.

content   any value: pandas, NumPy, polars, Arrow, and Python's containers
arrow     an Arrow column
"""
