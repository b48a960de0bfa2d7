// Takes all the memory there is, touching it, until it dies.
#include <stdio.h>
#include <sys/mman.h>

int main(void)
{
	puts("taking all");
	fflush(stdout);
	for (;;) {
		volatile char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (p == MAP_FAILED)
			return 1;
		for (int i = 0; i < 1 << 20; i += 4096)
			p[i] = 1;
	}
}
