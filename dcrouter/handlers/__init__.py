"""The operator's own code, in its process: it takes connections over (`handler`), or says where they go (`select`)."""
