"""The benchmark: cowherd and its peers side by side (`make bench`; docs/benchmarks.md)."""
