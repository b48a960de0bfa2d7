// show prints the files that its arguments name.
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char piece[4096];
	int missing = 0;

	for (int i = 1; i < argc; i++) {
		int fd = open(argv[i], O_RDONLY);
		ssize_t n = -1;

		while (fd >= 0 && (n = read(fd, piece, sizeof piece)) > 0)
			if (write(1, piece, n) != n)
				return 2;
		if (n < 0) {
			printf("%s: missing\n", argv[i]);
			fflush(stdout);
			missing = 1;
		}
	}
	return missing;
}
