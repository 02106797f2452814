"""What keeps the content whole at rest: scrub, repair, reaper, recovery, consistency checks, rules of lineage."""
