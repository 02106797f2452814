"""The `cowherd` command, which keeps a herd safe. One module for each subcommand, in a package for each group of its help."""
