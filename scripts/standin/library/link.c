/* The stand-in's library: finding the process that holds the keys, and asking it. */
#include "link.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME "zymkey.sock"

struct device {
    int socket;
    pthread_mutex_t turn; /* a request and its answer belong together */
};

/* The folder of this library: each stand-in has its own, so no environment names the socket. */
static int own_folder(void) {
    Dl_info found;
    char path[4096];
    if (dladdr((void *)&own_folder, &found) == 0 || found.dli_fname == NULL)
        return -ENODEV;
    if (snprintf(path, sizeof path, "%s", found.dli_fname) >= (int)sizeof path)
        return -ENAMETOOLONG;
    int folder = open(dirname(path), O_PATH | O_DIRECTORY | O_CLOEXEC);
    return folder < 0 ? -errno : folder;
}

static int connect_beside(void) {
    int folder = own_folder();
    if (folder < 0)
        return folder;
    /* By way of /proc: a socket's address has 108 bytes, a folder's path may have more. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" SOCKET_NAME, folder);
    int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (made >= 0 && connect(made, (struct sockaddr *)&address, sizeof address) != 0) {
        close(made);
        made = -1;
    }
    close(folder);
    return made < 0 ? -ENODEV : made;
}

static int send_all(int to, const void *data, size_t size) {
    const uint8_t *next = data;
    while (size > 0) {
        ssize_t sent = send(to, next, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return -ENODEV;
        next += sent;
        size -= (size_t)sent;
    }
    return 0;
}

static int receive_all(int from, void *data, size_t size) {
    uint8_t *next = data;
    while (size > 0) {
        ssize_t got = recv(from, next, size, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return -ENODEV;
        next += got;
        size -= (size_t)got;
    }
    return 0;
}

static int receive_answer(int from, struct bytes *answer) {
    uint32_t head[2];
    int failed = receive_all(from, head, sizeof head);
    if (failed)
        return failed;
    size_t size = ntohl(head[1]);
    if (size > MOST_BYTES)
        return -EPROTO;
    uint8_t *data = calloc(1, size + 1);
    if (data == NULL)
        return -ENOMEM;
    failed = receive_all(from, data, size);
    int status = failed ? failed : (int32_t)ntohl(head[0]);
    if (status < 0 || answer == NULL) {
        free(data);
    } else {
        answer->data = data;
        answer->size = size;
    }
    return status;
}

int device_ask(struct device *device, enum operation operation, int32_t argument,
               const void *data, size_t size, struct bytes *answer) {
    if (answer != NULL)
        *answer = (struct bytes){NULL, 0};
    if (device == NULL)
        return -ENODEV;
    if (size > MOST_BYTES)
        return -EMSGSIZE;
    uint32_t head[3] = {htonl(operation), htonl((uint32_t)argument), htonl((uint32_t)size)};
    pthread_mutex_lock(&device->turn);
    int status = send_all(device->socket, head, sizeof head);
    if (status == 0)
        status = send_all(device->socket, data, size);
    if (status == 0)
        status = receive_answer(device->socket, answer);
    pthread_mutex_unlock(&device->turn);
    return status;
}

int device_open(struct device **opened) {
    int made = connect_beside();
    if (made < 0)
        return made;
    struct device *device = calloc(1, sizeof *device);
    if (device == NULL) {
        close(made);
        return -ENOMEM;
    }
    device->socket = made;
    pthread_mutex_init(&device->turn, NULL);
    int status = device_ask(device, OP_OPEN, 0, NULL, 0, NULL);
    if (status < 0)
        device_close(device);
    else
        *opened = device;
    return status;
}

void device_close(struct device *device) {
    if (device == NULL)
        return;
    close(device->socket);
    pthread_mutex_destroy(&device->turn);
    free(device);
}
