"""Decide: which rule a recipient belongs to, and so what becomes of the message for it."""
