"""`dcrouter demo`: a router, backends of its own, and one request or message through each kind of route, on loopback.

place     the temporary directory: ports, certificates, and the routes.yaml that a newcomer can read
backends  what stands behind the routes: a web server, one with TLS, a mail server
router    `dcrouter run` as a sub-process, from its start to its end
steps     one request or message each, as a client sends it and sees the answer
show      what the person at the terminal reads
tour      all of it in order
"""
