"""`cowherd-img`: a drop-in for QEMU's qemu-img. One module per subcommand; `main` imports only the one asked for."""
