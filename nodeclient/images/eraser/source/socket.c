/* Sockets as Linux has them (socket(7), ip(7), netdevice(7)). */
#include "socket.h"

enum { SOCKET = 41, CONNECT = 42, IOCTL = 16 };
enum { AF_UNIX_ = 1, AF_INET_ = 2, STREAM = 1, DGRAM = 2 };
enum { GET_FLAGS = 0x8913, SET_FLAGS = 0x8914, SET_ADDRESS = 0x8916, SET_MASK = 0x891c };
enum { UP = 1, RUNNING = 0x40 };
enum { PORTS = 8 }; /* Ethernet ports of one PC */

struct internet {
	u16 family, port;
	u32 address;
	u8 rest[8];
};

struct request {
	char name[16];
	union {
		struct internet address;
		short flags;
		u8 rest[24];
	} value;
};

long dial(u32 address, u16 port)
{
	struct internet to = { AF_INET_, __builtin_bswap16(port), __builtin_bswap32(address), { 0 } };
	long made = sys(SOCKET, AF_INET_, STREAM, 0, 0, 0, 0);
	if (made < 0)
		return made;
	long result = sys(CONNECT, made, (long)&to, sizeof to, 0, 0, 0);
	if (result < 0)
		close_file((int)made);
	return result < 0 ? result : made;
}

long dial_path(const char *path)
{
	struct {
		u16 family;
		char path[108];
	} to = { AF_UNIX_, { 0 } };
	if (strlen(path) >= sizeof to.path)
		return -1;
	memcpy(to.path, path, strlen(path));
	long made = sys(SOCKET, AF_UNIX_, STREAM, 0, 0, 0, 0);
	if (made < 0)
		return made;
	long result = sys(CONNECT, made, (long)&to, sizeof to, 0, 0, 0);
	return result < 0 ? result : made;
}

static int flags_of(int control, struct request *request)
{
	return sys(IOCTL, control, GET_FLAGS, (long)request, 0, 0, 0) < 0 ? -1 : request->value.flags;
}

static int set_address(int control, struct request *request, u32 address, u32 mask)
{
	struct internet value = { AF_INET_, 0, __builtin_bswap32(address), { 0 } };
	request->value.address = value;
	if (sys(IOCTL, control, SET_ADDRESS, (long)request, 0, 0, 0) < 0)
		return -1;
	value.address = __builtin_bswap32(mask);
	request->value.address = value;
	return sys(IOCTL, control, SET_MASK, (long)request, 0, 0, 0) < 0 ? -1 : 0;
}

int bring_up(u32 address, u32 mask, int seconds)
{
	int control = (int)sys(SOCKET, AF_INET_, DGRAM, 0, 0, 0, 0);
	for (int wait = 0; wait < seconds * 10; wait++, sleep_ms(100)) {
		for (int port = 0; port < PORTS; port++) {
			struct request request = { "eth0", { .rest = { 0 } } };
			request.name[3] = (char)('0' + port);
			int flags = flags_of(control, &request);
			if (flags < 0)
				continue;
			if (!(flags & UP)) {
				request.value.flags = (short)(flags | UP);
				sys(IOCTL, control, SET_FLAGS, (long)&request, 0, 0, 0);
			} else if (flags & RUNNING) {
				int result = set_address(control, &request, address, mask);
				close_file(control);
				return result;
			}
		}
	}
	close_file(control);
	return -1;
}
