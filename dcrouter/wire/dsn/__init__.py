"""Notices about mail (RFC 3461, 3464, 6533): their words, their reports, and the addresses in them."""
