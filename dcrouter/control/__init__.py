"""The parent: binds ports, owns the state directory and the certificates, supervises the children, sees no traffic."""
