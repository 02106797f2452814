"""Which images there are, what stands on what, and where else to look."""
