"""Converts frames to bytes and back, exactly or not at all. Only this package uses Parquet and CSV.

encoding          encodes a frame, or a stream of frames, as an artifact
pandas_encoding   pandas frames as stored tables
arrow_encoding    polars and Arrow frames as stored tables
streams           polars and Arrow frames as streams of tables
conversion/       frames and Arrow tables: the layout, columns, objects, time zones; files of other programs
parquet/          Parquet files: writer, reader, block checksums, limits of decoding
csv/              CSV texts and their Table Schema; CSV files of other programs
selection/        columns= and filters=
hashing/          hashes of frames, and of values that contain frames
decoding          turns errors that stored bytes cause into `ArtifactDecodeError`
memory            refuses frames that cannot fit into memory
kinds             the kinds of frames
"""
