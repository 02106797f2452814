"""One job on whole images each: create, convert, commit, rebase, compare, check, measure, map, resize, inspect."""
