"""DataFrame <-> bytes, exactly or not at all: the only package that touches Parquet and CSV.

encoding      what a store writes: a frame, or a stream of frames, as an encoded artifact
conversion/   DataFrame <-> Arrow table: the layout, columns, objects, time zones; another program's schema as a frame
parquet/      Arrow table <-> Parquet file: writer, reader, block checksums, limits of decoding
csv/          Arrow table <-> CSV text and its Table Schema; CSV files of other programs
selection/    columns= and filters=
hashing/      frames, and values that contain frames, hashed by content
decoding      every error that stored bytes cause is an `ArtifactDecodeError`
memory        refuses what cannot fit into memory
"""
