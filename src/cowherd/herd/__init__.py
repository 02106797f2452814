"""Many images: lineage, seals, bindings, verify, impact, repair and the gate in front of changes."""
