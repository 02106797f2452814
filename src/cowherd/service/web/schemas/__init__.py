"""The schemas of documents that come in and go out, and what holds a document to its schema."""
