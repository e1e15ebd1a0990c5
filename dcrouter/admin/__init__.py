"""The operator's window: logs, the API on the unix socket, and the command line."""
