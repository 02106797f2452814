"""Copying the content of images into another one."""
