/* Stand-in for Zymbit's libzk_app_utils.so: what is there. SIMULATED: its keys are software's.
 *
 * The names and arguments are those that the Python binding zku 1.0.33 asks for. Keys live in the
 * process at the other end of the socket, never here. Answers are 0 or above, or a negative errno.
 */
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIGEST_BYTES 32
#define SIGNATURE_BYTES 64

static int give(struct bytes answer, void **data, int *size) {
    *data = answer.data;
    *size = (int)answer.size;
    return 0;
}

static int read_file(const char *path, struct bytes *content) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -errno;
    uint8_t *data = malloc(MOST_BYTES + 1);
    size_t size = 0;
    ssize_t got = data == NULL ? -1 : 1;
    while (got > 0 && size <= MOST_BYTES) {
        got = read(file, data + size, MOST_BYTES + 1 - size);
        size += got > 0 ? (size_t)got : 0;
    }
    close(file);
    if (got < 0 || size > MOST_BYTES) {
        free(data);
        return got < 0 ? -EIO : -EFBIG;
    }
    *content = (struct bytes){data, size};
    return 0;
}

/* Frees `content` in every case. */
static int write_file(const char *path, struct bytes content) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int status = file < 0 ? -errno : 0;
    for (size_t done = 0; status == 0 && done < content.size;) {
        ssize_t put = write(file, content.data + done, content.size - done);
        if (put <= 0)
            status = -EIO;
        else
            done += (size_t)put;
    }
    if (file >= 0 && close(file) != 0)
        status = -EIO;
    if (file >= 0 && status != 0)
        unlink(path);
    explicit_bzero(content.data, content.size);
    free(content.data);
    return status;
}

int zkOpen(void **context) {
    struct device *opened = NULL;
    int status = device_open(&opened);
    if (status >= 0)
        *context = opened;
    return status;
}

int zkClose(void *context) {
    device_close(context);
    return 0;
}

static int led(void *context, int32_t state, const uint32_t *times, size_t size) {
    return device_ask(context, OP_LED, state, times, size, NULL);
}

int zkLEDOff(void *context) { return led(context, 0, NULL, 0); }

int zkLEDOn(void *context) { return led(context, 1, NULL, 0); }

int zkLEDFlash(void *context, unsigned long on_ms, unsigned long off_ms, unsigned long times) {
    uint32_t wanted[3] = {htonl((uint32_t)on_ms), htonl((uint32_t)off_ms), htonl((uint32_t)times)};
    return led(context, 2, wanted, sizeof wanted);
}

static int get_random(void *context, int size, struct bytes *answer) {
    if (size < 1 || size > MOST_BYTES)
        return -EINVAL;
    int status = device_ask(context, OP_RANDOM, size, NULL, 0, answer);
    /* The binding reads as many bytes as it asked for, whatever came. */
    if (status >= 0 && answer->size != (size_t)size) {
        free(answer->data);
        return -EIO;
    }
    return status;
}

int zkGetRandBytes(void *context, void **data, int size) {
    struct bytes answer;
    int status = get_random(context, size, &answer);
    if (status >= 0)
        *data = answer.data;
    return status;
}

int zkCreateRandDataFile(void *context, const char *path, int size) {
    struct bytes answer;
    int status = get_random(context, size, &answer);
    return status < 0 ? status : write_file(path, answer);
}

/* Lock or unlock: bytes or a file in, bytes out. Unlocking gives 1 for what is genuine, else 0. */
static int convert(void *context, enum operation operation, const void *data, int size,
                   struct bytes *answer, bool shared) {
    return size < 0 ? -EINVAL : device_ask(context, operation, shared, data, (size_t)size, answer);
}

static int convert_file(void *context, enum operation operation, const char *path,
                        struct bytes *answer, bool shared) {
    struct bytes content = {NULL, 0};
    int status = read_file(path, &content);
    if (status < 0)
        return status;
    status = convert(context, operation, content.data, (int)content.size, answer, shared);
    explicit_bzero(content.data, content.size);
    free(content.data);
    return status;
}

/* What was not genuine is no file: the binding looks at nothing but the sign of the status. */
static int into_file(enum operation operation, int status, struct bytes answer, const char *path) {
    if (status < 0)
        return status;
    if (operation == OP_UNLOCK && status != 1) {
        free(answer.data);
        return -EBADMSG;
    }
    return write_file(path, answer);
}

#define CONVERSIONS(name, operation)                                                              \
    int name##B2B(void *context, const void *in, int in_size, void **out, int *out_size,         \
                  bool shared) {                                                                 \
        struct bytes answer;                                                                      \
        int status = convert(context, operation, in, in_size, &answer, shared);                  \
        return status < 0 ? status : (give(answer, out, out_size), status);                      \
    }                                                                                             \
    int name##F2B(void *context, const char *in, void **out, int *out_size, bool shared) {       \
        struct bytes answer;                                                                      \
        int status = convert_file(context, operation, in, &answer, shared);                      \
        if (operation == OP_UNLOCK && status == 0) {                                              \
            free(answer.data);                                                                    \
            return -EBADMSG;                                                                      \
        }                                                                                         \
        return status < 0 ? status : (give(answer, out, out_size), status);                      \
    }                                                                                             \
    int name##B2F(void *context, const void *in, int in_size, const char *out, bool shared) {    \
        struct bytes answer;                                                                      \
        int status = convert(context, operation, in, in_size, &answer, shared);                  \
        return into_file(operation, status, answer, out);                                        \
    }                                                                                             \
    int name##F2F(void *context, const char *in, const char *out, bool shared) {                 \
        struct bytes answer;                                                                      \
        int status = convert_file(context, operation, in, &answer, shared);                      \
        return into_file(operation, status, answer, out);                                        \
    }

CONVERSIONS(zkLockData, OP_LOCK)
CONVERSIONS(zkUnlockData, OP_UNLOCK)

/* The answer's last byte is the recovery id. */
int zkGenECDSASigFromDigestWithRecID(void *context, const void *digest, int slot, void **signature,
                                     int *size, unsigned *recovery) {
    struct bytes answer;
    int status = device_ask(context, OP_SIGN, slot, digest, DIGEST_BYTES, &answer);
    if (status < 0)
        return status;
    if (answer.size != SIGNATURE_BYTES + 1) {
        free(answer.data);
        return -EPROTO;
    }
    if (recovery != NULL)
        *recovery = answer.data[SIGNATURE_BYTES];
    answer.size = SIGNATURE_BYTES;
    return give(answer, signature, size);
}

int zkGenECDSASigFromDigest(void *context, const void *digest, int slot, void **signature,
                            int *size) {
    return zkGenECDSASigFromDigestWithRecID(context, digest, slot, signature, size, NULL);
}

int zkVerifyECDSASigFromDigest(void *context, const void *digest, int slot, const void *signature,
                               int size) {
    uint8_t both[DIGEST_BYTES + SIGNATURE_BYTES];
    if (size != SIGNATURE_BYTES)
        return 0;
    memcpy(both, digest, DIGEST_BYTES);
    memcpy(both + DIGEST_BYTES, signature, SIGNATURE_BYTES);
    return device_ask(context, OP_VERIFY, slot, both, sizeof both, NULL);
}

/* A stand-in keeps no keys of others: what asks for one of those is refused. */
int zkExportPubKey(void *context, void **key, int *size, int slot, bool foreign) {
    struct bytes answer;
    int status = foreign ? -ENOSYS : device_ask(context, OP_PUBLIC_KEY, slot, NULL, 0, &answer);
    return status < 0 ? status : give(answer, key, size);
}

int zkGetECDSAPubKey(void *context, void **key, int *size, int slot) {
    return zkExportPubKey(context, key, size, slot, false);
}

int zkExportPubKey2File(void *context, const char *path, int slot, bool foreign) {
    struct bytes answer;
    int status = foreign ? -ENOSYS : device_ask(context, OP_PUBLIC_PEM, slot, NULL, 0, &answer);
    return status < 0 ? status : write_file(path, answer);
}

int zkSaveECDSAPubKey2File(void *context, const char *path, int slot) {
    return zkExportPubKey2File(context, path, slot, false);
}
