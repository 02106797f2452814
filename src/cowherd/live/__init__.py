"""Running programs: which of them has an image open."""
