"""The laws of backends and stores, as test classes that you inherit."""
