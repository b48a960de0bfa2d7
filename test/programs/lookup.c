// Looks names up with the C library's resolver: for each it prints how many addresses there are, and the least.
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list;

	for (int i = 1; i < argc; i++) {
		char least[64] = "";
		int n = 0, failed = getaddrinfo(argv[i], NULL, &hints, &list);

		if (failed) {
			printf("%s %s\n", argv[i], failed == EAI_NONAME ? "not found" : gai_strerror(failed));
			continue;
		}
		for (struct addrinfo *a = list; a; a = a->ai_next, n++) {
			char text[64];
			getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
			if (!*least || strcmp(text, least) < 0)
				strcpy(least, text);
		}
		freeaddrinfo(list);
		printf("%s %d %s\n", argv[i], n, least);
	}
	return 0;
}
