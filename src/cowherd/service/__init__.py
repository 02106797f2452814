"""An image service: the OpenStack Image API v2, over stores that keep what was uploaded whole."""
