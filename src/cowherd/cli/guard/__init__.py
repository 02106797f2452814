"""The `cowherd` command: what a person types to have a herd kept safe. One module for each subcommand."""
