"""How bytes arrive: hashed, inspected, stored, and only then told of in the records."""
