"""qcow2, versions 2 and 3, after QEMU's specification (docs/interop/qcow2)."""
