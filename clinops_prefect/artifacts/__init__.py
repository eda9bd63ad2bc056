"""An artifact as stored objects.

codec      the `Codec` protocol, with what all formats share
codecs     the codec of each format
parquet    artifacts of one Parquet object
csv        artifacts of a CSV text and its sidecar
sidecars   when sidecars are written and removed, and by whom
plain      plain objects, such as reports
reader     reads of one version of a stored object, in several requests
removal    removal of many artifacts
info       the description of an artifact
"""
