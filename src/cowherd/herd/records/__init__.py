"""What cowherd writes down beside images, and in them: seals, bindings, journals, the trash; and whose a file is."""
