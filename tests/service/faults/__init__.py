"""The service while its host fails: disks, the database, the clock, and the identity service."""
