"""Twisted client endpoints that are made of each other: each gives a connection, one does more with what another gives.

place: TCP, from an address of ours where that is told. opening: octets that stand before everything, such as a PROXY
header. tunnel: a proxy's consent (SOCKS 5, HTTP CONNECT). secure: TLS. described: by Twisted's words for it. So TLS to
a proxy, through it to another one, and a PROXY header for the target, is
`Opening(Tunnel(Tunnel(Secure(place(...)))))`. Each has a timeout of its own.
"""
