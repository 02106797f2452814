"""What stands in front of every change, and of every start of a machine."""
