"""The files that a machine is about to open, from its description: a libvirt domain's XML or a QEMU command line.

Tables (`table`, `drivers`) list the options and block drivers of QEMU that can name a file. An option or driver that no table
lists is not understood, which is a reason not to start.
"""
