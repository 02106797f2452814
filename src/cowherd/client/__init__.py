"""Asks an image service, cowherd's or another that speaks OpenStack's Image API: lists, pushes and pulls images."""
