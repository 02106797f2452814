"""Everything that is wrong in a herd, worst first, each with its remedy. One module holds each kind of check."""
