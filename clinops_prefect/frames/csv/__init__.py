"""Writes Arrow tables as CSV text, and reads CSV text as Arrow tables.

text      our own CSV texts and their Table Schema
foreign   CSV files that other programs wrote
cells     converts the cells of such a file to numbers, if every cell of a column is a number
options   the options in `csv_options`
"""
