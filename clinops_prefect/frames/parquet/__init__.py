"""Writes Arrow tables as Parquet files, and reads them.

writer            tables -> bytes, with pyarrow or polars
writer_pipe       a writer's output as an iterator
checksums         block checksums: the CRC-32 of every 8 KiB, written before the footer
reader            bytes -> tables and frames, fetching only the ranges that are needed
row_labels        the labels of rows in a file that only describes them
stored_file       the stored file: its footer, its checksums, the fetched ranges
file_bytes        a whole file, whose memory is given back while it is decoded
partial_file      a file of which only some ranges are in memory
parallel_decode   decoding in threads of this process
known_schemas     the schemas of many files, of which most are the same
column_chunks     where each column chunk is, and how large it is when decoded
text_sizes        how large texts are when decoded
int96             times that old programs store as INT96
"""
