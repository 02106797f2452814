"""What the service knows: tables, queries and migrations. No HTTP and no image is touched here."""
