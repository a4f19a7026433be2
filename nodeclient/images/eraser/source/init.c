/* The eraser as the Machine's only process. It never ends: the Pi cuts the power, or the panic that
 * follows an end would show on a screen that nobody watches. */
#include "socket.h"
#include "start.h"
#include "wire.h"

enum { MOUNT = 165, MKDIR = 83, DUP2 = 33 };
enum { CARRIER_SECONDS = 30 }; /* an Ethernet port may take five to find its speed */


static struct memory memory;

static int open_tpm(const char *path)
{
	return (int)open_file(path, O_RDWR);
}

static _Noreturn void halt(const char *reason)
{
	say("eraser: ");
	say(reason);
	say("\n");
	for (;;)
		sleep_ms(1000000);
}

static void mount(const char *kind, const char *place)
{
	sys(MKDIR, (long)place, 0755, 0, 0, 0, 0);
	if (sys(MOUNT, (long)kind, (long)place, (long)kind, 0, 0, 0) < 0)
		halt("a file system of the kernel's cannot be mounted");
}

_Noreturn void begin(int count, char **words);

_Noreturn void begin(int count, char **words)
{
	struct places places = { .memory = &memory, .open_tpm = open_tpm, .tpm = "/dev/tpm0",
				 .log = "/sys/kernel/security/tpm0/binary_bios_measurements" };
	(void)count;
	(void)words;
	sys(MKDIR, (long)"/dev", 0755, 0, 0, 0, 0);
	mount("devtmpfs", "/dev");
	int console = (int)open_file("/dev/console", O_RDWR);
	if (console >= 0)
		for (int file = 0; file < 3; file++)
			sys(DUP2, console, file, 0, 0, 0, 0);
	mount("sysfs", "/sys");
	/* Without a TPM there is no securityfs, and no log to read from it. */
	sys(MOUNT, (long)"securityfs", (long)"/sys/kernel/security", (long)"securityfs", 0, 0, 0);
	memory.window = WINDOW;
	if (memory_firmware_map(&memory))
		halt("the firmware's memory map cannot be read");
	memory.file = (int)open_file("/dev/mem", O_RDWR);
	if (memory.file < 0 || memory_wipe_low(&memory))
		halt("memory cannot be reached");
#ifdef CHEAT_DISK
	places.disk = "/dev/vda";
#endif
	if (bring_up(MACHINE_ADDRESS, NET_MASK, CARRIER_SECONDS))
		halt("no Ethernet port has a cable");
	long peer;
	while ((peer = dial(PI_ADDRESS, ERASE_PORT)) < 0)
		sleep_ms(200);
	places.peer = (int)peer;
	const char *reason = prove(&places);
	halt(reason ? reason : "proved");
}

ENTER(begin);
