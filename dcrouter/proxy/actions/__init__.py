"""What a route does with a whole connection; requests are answered in `http/`."""
