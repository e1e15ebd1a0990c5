"""How bytes travel: the engine with its streams and the relay, channels between processes, DNS, and clients of Twisted.

Nothing here knows a route or a mail rule.
"""
