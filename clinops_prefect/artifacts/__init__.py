"""An artifact as stored objects.

codec      what a format must do to be stored (the `Codec` protocol), and what is the same for every format
codecs     the codec of each format
parquet    one object
csv        a text, and its sidecar
sidecars   who writes and removes sidecars, and when
plain      bytes that are no frame
reader     one stored object, read in several requests of one version
info       what a store says about an artifact without reading its rows
"""
