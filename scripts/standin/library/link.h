/* The wire between the stand-in's library and the process that holds its keys.
 *
 * One request, one answer, over a UNIX stream socket that lies beside this library. All numbers are
 * in network order.
 *   request: u32 operation, i32 argument, u32 size, then `size` bytes
 *   answer:  i32 status,                  u32 size, then `size` bytes
 * A status below zero is a negative errno, as Zymbit's own library answers.
 */
#ifndef STANDIN_LINK_H
#define STANDIN_LINK_H

#include <stddef.h>
#include <stdint.h>

#define MOST_BYTES 65536 /* of one request or answer */

enum operation {
    OP_OPEN = 1,
    OP_RANDOM,
    OP_LOCK,
    OP_UNLOCK,
    OP_SIGN,
    OP_VERIFY,
    OP_PUBLIC_KEY,
    OP_PUBLIC_PEM,
    OP_PERIMETER,
    OP_CLEAR_PERIMETER,
    OP_PERIMETER_ACTION,
    OP_WAIT_PERIMETER,
    OP_MODEL,
    OP_FIRMWARE,
    OP_SERIAL,
    OP_BINDING,
    OP_LOCK_BINDING,
    OP_TIME,
    OP_LED,
    OP_SLOTS,
};

struct bytes {
    uint8_t *data; /* from malloc, one NUL behind the last byte; the caller frees it */
    size_t size;
};

struct device;

int device_open(struct device **opened);
void device_close(struct device *device);

/* Ask once. The status of the answer; -ENODEV when the other side is gone, -EMSGSIZE when the
 * request is too long, -EPROTO when the answer is. `answer` may be NULL. Below zero, nothing is
 * left to free. */
int device_ask(struct device *device, enum operation operation, int32_t argument,
               const void *data, size_t size, struct bytes *answer);

#endif
