/* Stand-in for Zymbit's libzk_app_utils.so: perimeter, binding, clock, and what it is. SIMULATED. */
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/* Numbers from the wire, in the order of this host, in a buffer that the caller frees. */
static int ask_numbers(void *context, enum operation operation, int32_t argument,
                       uint32_t **numbers, int *count) {
    struct bytes answer;
    int status = device_ask(context, operation, argument, NULL, 0, &answer);
    if (status < 0)
        return status;
    if (answer.size % sizeof(uint32_t) != 0) {
        free(answer.data);
        return -EPROTO;
    }
    *numbers = (uint32_t *)(void *)answer.data; /* aligned: from calloc */
    *count = (int)(answer.size / sizeof(uint32_t));
    for (int each = 0; each < *count; each++)
        (*numbers)[each] = ntohl((*numbers)[each]);
    return status;
}

int zkGetPerimeterDetectInfo(void *context, uint32_t **seconds, int *channels) {
    return ask_numbers(context, OP_PERIMETER, 0, seconds, channels);
}

int zkClearPerimeterDetectEvents(void *context) {
    return device_ask(context, OP_CLEAR_PERIMETER, 0, NULL, 0, NULL);
}

int zkSetPerimeterEventAction(void *context, int channel, int actions) {
    uint32_t wanted = htonl((uint32_t)actions);
    return device_ask(context, OP_PERIMETER_ACTION, channel, &wanted, sizeof wanted, NULL);
}

int zkWaitForPerimeterEvent(void *context, int milliseconds) {
    return device_ask(context, OP_WAIT_PERIMETER, milliseconds, NULL, 0, NULL);
}

static int ask_text(void *context, enum operation operation, char **text) {
    struct bytes answer;
    int status = device_ask(context, operation, 0, NULL, 0, &answer);
    if (status >= 0)
        *text = (char *)answer.data; /* device_ask ends it with NUL */
    return status;
}

int zkGetModelNumberString(void *context, char **text) {
    return ask_text(context, OP_MODEL, text);
}

int zkGetFirmwareVersionString(void *context, char **text) {
    return ask_text(context, OP_FIRMWARE, text);
}

int zkGetSerialNumberString(void *context, char **text) {
    return ask_text(context, OP_SERIAL, text);
}

int zkGetCurrentBindingInfo(void *context, bool *locked, bool *bound) {
    uint32_t *numbers;
    int count, status = ask_numbers(context, OP_BINDING, 0, &numbers, &count);
    if (status < 0)
        return status;
    if (count == 2) {
        *locked = numbers[0] != 0;
        *bound = numbers[1] != 0;
    }
    free(numbers);
    return count == 2 ? status : -EPROTO;
}

int zkLockBinding(void *context) { return device_ask(context, OP_LOCK_BINDING, 0, NULL, 0, NULL); }

int zkGetTime(void *context, int *seconds, bool precise) {
    uint32_t *numbers;
    int count, status = ask_numbers(context, OP_TIME, precise, &numbers, &count);
    if (status < 0)
        return status;
    if (count == 1)
        *seconds = (int)numbers[0];
    free(numbers);
    return count == 1 ? status : -EPROTO;
}

/* The first number is how many slots there are, the rest are those that hold a key. */
int zkGetAllocSlotsList(void *context, bool foreign, int *slots, uint32_t **held, int *count) {
    uint32_t *numbers;
    int all, status = foreign ? -ENOSYS : ask_numbers(context, OP_SLOTS, 0, &numbers, &all);
    if (status < 0)
        return status;
    if (all < 1) {
        free(numbers);
        return -EPROTO;
    }
    *slots = (int)numbers[0];
    *count = all - 1;
    for (int each = 0; each < *count; each++)
        numbers[each] = numbers[each + 1];
    *held = numbers;
    return status;
}
