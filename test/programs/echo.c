// Copies standard input to standard output until the end of file. The exit status
// is the number of bytes modulo 128.
#include <errno.h>
#include <unistd.h>

int main(void)
{
	static char buffer[4096];
	unsigned total = 0;
	ssize_t n;

	while ((n = read(0, buffer, sizeof buffer)) > 0) {
		for (ssize_t done = 0; done < n;) {
			ssize_t w = write(1, buffer + done, n - done);

			if (w < 0)
				return 255;
			done += w;
		}
		total += n;
	}
	return n < 0 ? 254 : total & 127;
}
