"""An asynchronous ACME client (RFC 8555) on treq and cryptography; its door is `authority.Authority`.

`authority` one directory with one account: issue, renewal_info, revoke
`account`   who we are to the CA;  `external` the account there that it is bound to
`order`     names in, a certificate out;  `authorization` the proof of one name;  `challenges` what solvers do for it
`client`    signed requests, nonces, the directory;  `transport` HTTPS with bounds
`answers`   and `problems`: what came back, as values and as errors
`rfc2136`, `command` solvers of dns-01

Every wait ends by itself and can be cancelled; a cancelled order has its challenges cleaned up.
"""
