"""Processes with limits, in which the bytes of stored images are read wholly: they can exhaust or crash nothing else."""
