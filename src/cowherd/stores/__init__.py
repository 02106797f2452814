"""Places for content: blobs, each a whole file named by its digest, with what is known of it beside it."""
