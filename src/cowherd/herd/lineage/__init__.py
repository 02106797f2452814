"""Which images there are, which of them stand on which, and where else to look."""
