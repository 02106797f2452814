"""Where the events of a watch go: log, JSON lines, a command, Prometheus, systemd."""
