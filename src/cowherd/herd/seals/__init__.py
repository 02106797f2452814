"""Sealing bases, and finding out whether they still are as they were sealed."""
