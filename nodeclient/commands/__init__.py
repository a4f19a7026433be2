"""One file per group of ``sealrun``'s commands. They read, call and print; rules live elsewhere."""
