"""Converts frames to Arrow tables and back.

layout           the whole pandas frame: labels, index, attrs, and the note of everything that Arrow has no place for
columns          one column
objects          a column of Python objects
zones            time zones as JSON
from_pandas      the same table as `pa.Table.from_pandas`, faster
plain_frames     remembers the descriptions of small frames
plain_frames     the table of a frame like one before, from a remembered description
frame_builder    makes a pandas frame, allocated once and filled from several threads
missing_floats   copies floats with missing values from Arrow to NumPy
pandas_blocks    which columns share one NumPy array in pandas
arrow_frames     Arrow tables and the tables that are stored for them
polars_frames    polars frames and the tables that are stored for them
extension_types  replaces Arrow's extension types by their storage
named_ranges     an index that is a named range without a field
valid_texts      finds texts that are not UTF-8
schemas          reads a stored schema without pandas
foreign_schema   the layout for a file that another program wrote
foreign_values   the values of such a file
"""
