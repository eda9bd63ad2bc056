"""Arrow table <-> Parquet file.

writer            tables -> bytes, with pyarrow or polars
writer_pipe       a writer's output as an iterator
checksums         block checksums: the CRC-32 of every 8 KiB, written before the footer
reader            bytes -> tables and frames, fetching only the ranges that are needed
stored_file       the stored file: its footer, its checksums, the ranges that were fetched
parallel_decode   decoding in threads of this process
column_chunks     where each column chunk is, and how large it is when decoded
text_sizes        how large texts are when decoded
int96             times of old programs
"""
