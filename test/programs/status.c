// Ends in the way that its argument says.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int eat(volatile char *above)
{
	volatile char frame[4096];

	memset((void *)frame, 1, sizeof frame);
	return above && frame[7] ? eat(frame) + frame[9] : 0;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	printf("before %s\n", how);
	fflush(stdout);
	if (!strcmp(how, "exit"))
		exit(atoi(argv[2]));
	if (!strcmp(how, "_exit"))
		_exit(atoi(argv[2]));
	if (!strcmp(how, "null"))
		*(volatile int *)0 = 1;
	if (!strcmp(how, "jump"))
		((void (*)(void))0x1234)();
	if (!strcmp(how, "noncanonical"))
		*(volatile int *)0x8000000000000000 = 1;
	if (!strcmp(how, "kernel"))
		*(volatile int *)0xffffffff80200000 = 1;
	if (!strcmp(how, "nx")) {
		static char data[16];

		data[0] = (char)0xc3;
		((void (*)(void))data)();
	}
	if (!strcmp(how, "rodata"))
		*(volatile char *)"constant" = 'C';
	if (!strcmp(how, "stack"))
		return eat((char *)&how);
	if (!strcmp(how, "ill"))
		__asm__ volatile("ud2");
	if (!strcmp(how, "privileged"))
		__asm__ volatile("hlt");
	if (!strcmp(how, "port"))
		__asm__ volatile("outb %al, $0x64");
	if (!strcmp(how, "trap"))
		__asm__ volatile("int3");
	if (!strcmp(how, "int80"))
		__asm__ volatile("int $0x81");
	if (!strcmp(how, "divide"))
		__asm__ volatile("xor %%ecx,%%ecx; mov $1,%%eax; cltd; idiv %%ecx" ::: "eax", "ecx", "edx");
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "signal"))
		kill(getpid(), atoi(argv[2]));
	if (!strcmp(how, "raise"))
		raise(atoi(argv[2]));
	if (!strcmp(how, "syscall-kernel-rip")) {
		// SYSRET to a non-canonical address would fault in ring 0 on some
		// CPUs: run a SYSCALL whose return address is the end of user space.
		char *last = mmap((void *)0x7ffffffff000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

		if (last != MAP_FAILED)
			return 99; // Linux doesn't map this page
		last = mmap((void *)0x7fffffffe000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		if (last == MAP_FAILED)
			return 98;
		memcpy(last + 4094, "\x0f\x05", 2);
		__asm__ volatile("jmp *%0" : : "r"(last + 4094), "a"(39));
	}
	return 100;
}
