"""What earlier scans found out, kept for later ones: a cache that can be thrown away at any time."""
