"""A herd as one HTML page without other files. It can be read without its script, which searches, filters, sorts and jumps."""
