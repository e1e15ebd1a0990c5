"""Who we prove to be: credentials, where they come from, and which of them a connection is shown.

The parent holds `store` (the operator's files, `internal` for the rest) and sends `credential`s to the edge and the
mail process, where `chooser` gives the context for SNI and ALPN that `profile` makes. `trust`: whom we believe.
"""
