// A server of static bytes: httpd PORT. It answers GET /N with N bytes that repeat the alphabet, one
// connection after the other, and ends after GET /quit.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int put(int s, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = write(s, p, n);
		if (k <= 0)
			return -1;
		p += k, n -= k;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 80)};
	int l = socket(AF_INET, SOCK_STREAM, 0), one = 1, quit = 0;
	static char b[26 * 2520];

	for (size_t i = 0; i < sizeof b; i++)
		b[i] = 'a' + i % 26;
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(l, (struct sockaddr *)&a, sizeof a) || listen(l, 64)) {
		perror("listen");
		return 1;
	}
	puts("serving");
	fflush(stdout);
	while (!quit) {
		char request[4096];
		size_t n = 0;
		ssize_t k;
		int s = accept(l, NULL, NULL);

		if (s < 0) {
			perror("accept");
			return 1;
		}
		while ((k = read(s, request + n, sizeof request - 1 - n)) > 0) {
			request[n += k] = 0;
			if (strstr(request, "\r\n\r\n"))
				break;
		}
		if (k > 0 && strncmp(request, "GET /", 5) == 0) {
			size_t size = strtoul(request + 5, NULL, 10);
			char head[200];
			int h = sprintf(head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", size);
			if (put(s, head, h) == 0) {
				while (size > 0) {
					size_t part = size < sizeof b ? size : sizeof b;
					if (put(s, b, part))
						break;
					size -= part;
				}
			}
			quit = strncmp(request, "GET /quit", 9) == 0;
		}
		close(s);
	}
	return 0;
}
