"""DKIM: domains that answer for a message by a signature. RFC 6376, 8301 (no SHA-1, keys of 1024 bits), 8463."""
