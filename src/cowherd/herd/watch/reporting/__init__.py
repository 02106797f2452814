"""The reporters, which take the events of a watch: log, JSON lines, a command, Prometheus, systemd."""
