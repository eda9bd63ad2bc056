"""DataFrame <-> bytes, exactly or not at all: the only package that touches Parquet and CSV.

layout      DataFrame <-> Arrow table, over columns and objects
parquet_writer, parquet_reader     Arrow table <-> Parquet, whole or by ranges; seal has the checksums inside
builder     a large frame, filled from Parquet part by part
chunks, pages, memory     what a Parquet file takes when it is decoded, found out before
decoding    the boundary that stored bytes cross: every error of theirs is one of ours
table_csv   Arrow table <-> CSV and its Table Schema sidecar
selection   columns= and filters=
encoding    a frame, or a stream of frames, as an encoded artifact: what a store writes
"""
