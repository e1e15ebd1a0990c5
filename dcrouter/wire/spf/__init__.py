"""SPF: who may use a domain in MAIL FROM and HELO. RFC 7208."""
