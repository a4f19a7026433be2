/* TCP to the Pi. */
#ifndef SOCKET_H
#define SOCKET_H

#include "sys.h"

/* Addresses in host order. A connected socket, or a negative errno. */
long dial(u32 address, u16 port);
/* As `dial`, for a TPM that answers at a socket in the file system (the host's tests). */
long dial_path(const char *path);
/* Give the first Ethernet port with a cable this address; -1 if there is none within `seconds`. */
int bring_up(u32 address, u32 mask, int seconds);

#endif
