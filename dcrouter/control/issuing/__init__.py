"""The parent's side of automatic certificates: which are wanted, who issues them, what is shown to prove our names.

`issuing` the whole: what is due, order by order;  `wanted` the names;  `kept` certificates and what is remembered, on
disk;  `directories` the authorities and how much each is asked;  `answers` what the edge shows them;  `responder` the
port that http-01 needs;  `ondemand` names that a client asked for;  `listed` all of it for the operator
"""
