"""Which machines have images open, or are going to."""
