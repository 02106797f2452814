"""What a machine is about to open, from its description: a libvirt domain's XML or a QEMU command line."""
