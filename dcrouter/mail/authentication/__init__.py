"""Who a message from a stranger is from: SPF, DKIM, DMARC, ARC and iprev, as email.authentication_results says."""
