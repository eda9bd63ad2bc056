"""DataFrame <-> Arrow table.

layout           the whole frame: labels, index, attrs, and the note of everything that Arrow has no place for
columns          one column
objects          a column of Python objects
zones            time zones as JSON
from_pandas      the table that pyarrow makes of a frame, faster
frame_builder    the frame, allocated once and filled from several threads
pandas_blocks    which columns share one NumPy array in pandas
foreign_schema   the layout of a file that another program wrote
foreign_values   its values
"""
