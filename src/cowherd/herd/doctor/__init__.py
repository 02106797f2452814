"""The doctor: everything that is wrong in a herd, worst first, each with its remedy. One module for each kind of check."""
