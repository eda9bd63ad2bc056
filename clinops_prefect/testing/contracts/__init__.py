"""The laws of backends and stores, as classes of tests to inherit."""
