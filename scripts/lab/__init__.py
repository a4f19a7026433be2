"""The lab profile on one host: a PC that boots from its Pi, between network namespaces.

The nodes are those of the embedded profile; each lives in a namespace of its own, and one of them,
the Pi, has the PC on its cable. Everything started here ends with the lab, also after Ctrl-C, after
a failure and, by `sealrun lab down`, after the lab's own process was killed.
"""
