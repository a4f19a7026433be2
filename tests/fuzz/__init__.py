"""Every parser of foreign bytes, against inputs that were valid until somebody changed them."""
