"""What a machine is about to open, from its description: a libvirt domain's XML or a QEMU command line.

The options and block drivers of QEMU that can name a file stand in tables (`table`, `drivers`). What stands in none of them is
not understood, which is a reason not to start.
"""
