"""A whole herd at one moment: its tree, its health, and where its bases have drifted."""
