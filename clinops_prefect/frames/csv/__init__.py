"""Arrow table <-> CSV text.

text      our own CSV and its Table Schema
foreign   CSV files that other programs wrote
cells     the cells of such a file as numbers, where every cell is one
options   what `csv_options` takes
"""
