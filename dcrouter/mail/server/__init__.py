"""Accept: SMTP sessions, who may log in and send, who exists, and the octets of a message as they come.

sessions has all of them, protocol and conversation one, transaction and intake one message.
"""
