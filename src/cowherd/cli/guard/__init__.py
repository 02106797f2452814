"""The `cowherd` command, which keeps a herd safe. One module for each subcommand."""
