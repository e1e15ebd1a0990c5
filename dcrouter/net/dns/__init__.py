"""DNS beneath the resolver: messages, servers, questions under way, and the cache."""
