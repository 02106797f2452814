"""What cowherd writes down, beside images and in them: seals, bindings, journals; and whose a file is."""
