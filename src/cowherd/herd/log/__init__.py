"""What cowherd did to images of this host: a log that people may read, and that no decision needs."""
