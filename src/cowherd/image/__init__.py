"""An opened disk: one image with the chain of backing files under it."""
