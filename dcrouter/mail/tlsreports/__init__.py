"""Telling domains how the TLS of our sessions with their exchangers goes: counted, and told once a day. RFC 8460."""
