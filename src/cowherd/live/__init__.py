"""Programs that run: who has an image open, and which images a machine is about to open."""
