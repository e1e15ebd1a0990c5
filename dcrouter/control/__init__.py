"""The parent: binds the ports, owns the state directory and the certificates, supervises the children, never sees traffic."""
