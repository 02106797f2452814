"""How requests come in and answers go out: sockets, processes, and the protocol on each connection."""
