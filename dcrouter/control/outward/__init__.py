"""What others are shown of our certificates, apart from those who connect.

`chosen` which certificate a name shows;  `dane` TLSA records, and whether they are published;  `export` files for other
servers
"""
