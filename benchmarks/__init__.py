"""How fast the product is, held against the bare engine under it: `make bench`."""
