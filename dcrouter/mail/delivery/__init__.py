"""Send: a message's way from the queue to next hops, exchangers and mailboxes, and the outcome for each recipient.

attempt looks up the rule; forwarding, destination and client are one message, one next hop, one connection.
"""
