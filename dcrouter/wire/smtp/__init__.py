"""SMTP as bytes: addresses, commands, replies, message data, and the two machines (server, client) that speak it.

Glossary: a *path* is `<local@domain>` on the wire, an *address* the text within it. A *transaction* is MAIL, RCPTs
and one message. A message is *stuffed* while it travels (a dot before each leading dot) and plain everywhere else.
"""
