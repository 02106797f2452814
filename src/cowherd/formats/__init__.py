"""The on-disk formats: each opens one file, without its backing file, as a `Layer`."""
