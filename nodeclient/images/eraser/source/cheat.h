/* Ways to cheat. The product defines none of them; tests do, one at a time, to see them refused.
 *
 * CHEAT_KEEP_MIB=n: the last n MiB of the memory keep what was in them.
 * CHEAT_DISK=n: they do, too, and the fill's last n MiB wait on a disk instead.
 * CHEAT_RANGES: stores only what lies below 256 MiB, and says that there is no more memory.
 * CHEAT_SKIP: says that all is stored before anything has come.
 */
#ifndef CHEAT_H
#define CHEAT_H

#include "memory.h"

#ifdef CHEAT_KEEP_MIB
#define KEPT_BYTES ((u64)(CHEAT_KEEP_MIB) << 20)
#elif defined(CHEAT_DISK)
#define KEPT_BYTES ((u64)(CHEAT_DISK) << 20)
#else
#define KEPT_BYTES 0ULL
#endif
#define LIKED_END (256ULL << 20)

#endif
