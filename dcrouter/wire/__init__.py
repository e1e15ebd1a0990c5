"""What bytes mean: parsers and machines without sockets. Bytes in; a value, None (more is needed) or an error out.

The standards live here, each with its section beside the line that obeys it.
"""
