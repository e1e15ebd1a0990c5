"""The parent's side of automatic certificates: which are wanted, who issues them, what is shown to prove our names.

`office` all of it, for the parent;  `issuing` what is due, order by order;  `windows` when authorities want renewals;
`kept` certificates and what is remembered, on disk;  `directories` the authorities, and how much each is asked;
`answers` what the edge shows them;  `responder` the port that http-01 needs;  `ondemand` names that a client asked for;
`desk` what the operator sees and does
"""
