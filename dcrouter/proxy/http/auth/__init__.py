"""Who may have a request answered: passwords (basic), tokens (jwt), and whoever else is asked (forward)."""
