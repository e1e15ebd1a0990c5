"""The mail half: a message is accepted, decided on, kept, and sent.

    server -> pipeline -> rules (match) -> action -> queue -> delivery

Nothing here asks a socket who its peer is: that is a fact which came with the connection.
"""
