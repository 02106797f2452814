"""The page of the service for people, at `/cowherd/`: read-only, made here, without a script."""
