"""Images: their records, content, tags, members and actions."""
