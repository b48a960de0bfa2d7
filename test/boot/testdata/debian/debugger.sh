# gdb: breakpoints, threads, watchpoints, steps, a call of a function, a core of what runs, and attaching.
# system
# memory 512
cat >p.c <<'END'
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int counter, turn;
void bump(int by) {
	counter += by;
}
void *work(void *p) {
	bump((long)p);
	return 0;
}
int twice(int x) {
	return 2 * x;
}
int main(int argc, char **argv) {
	pthread_t t;
	if (argc > 1)
		while (!turn)
			usleep(10000);
	pthread_create(&t, 0, work, (void *)5);
	pthread_join(t, 0);
	counter++;
	printf("counter %d\n", counter);
	return counter;
}
END
gcc -g -O0 -o p p.c
gdb -q -batch -nx -iex 'set debuginfod enabled off' -ex 'set print thread-events off' -ex 'break bump' -ex run -ex 'bt 2' -ex 'p by' -ex 'p twice(21)' \
	-ex 'watch counter' -ex 'p $_thread' -ex c -ex next -ex 'p counter' -ex 'delete' -ex 'break main' -ex 'tbreak p.c:23' -ex c -ex step -ex 'p counter' \
	-ex 'set var counter = 40' -ex 'hbreak twice' -ex 'info breakpoints' -ex c ./p 2>&1 | grep -vE 'libthread_db|LWP|^warning|^$' |
	sed -E 's/0x[0-9a-f]+/ADDRESS/g; s/process [0-9]+/process N/'
./p wait & p=$!
gdb -q -batch -nx -iex 'set debuginfod enabled off' -p $p -ex 'set var turn = 1' -ex 'p counter' -ex detach 2>&1 | grep '^\$'
wait $p; echo "status $?"
