"""The embedded profile on one host: a chain, its contracts and nodes as processes of their own.

`make demo` and the end-to-end tests drive the same network. Everything started here is stopped by
its process id, also after Ctrl-C and after a failure.
"""
