# make and gcc build a project, in parallel and again.
# system
# memory 512
for i in 1 2 3 4 5 6; do echo "int f$i(int x) { return x * $i; }" >f$i.c; done
cat >main.c <<'END'
#include <stdio.h>
int f1(int), f2(int), f3(int), f4(int), f5(int), f6(int);
int main(void) { return printf("%d\n", f1(1) + f2(1) + f3(1) + f4(1) + f5(1) + f6(1)) != 3; }
END
printf 'prog: main.o f1.o f2.o f3.o f4.o f5.o f6.o\n\tgcc -o $@ $^\n%%.o: %%.c\n\tgcc -O2 -c -o $@ $<\n' >Makefile
make -j3 | sort; ./prog; echo "status $?"; make
sleep 1.1; touch f3.c; make
ar rc libf.a f?.o && ar t libf.a; nm prog | grep -c ' T f'; gcc -static -o static main.c libf.a && ./static; echo 'int main( {' >bad.c; make bad.o 2>&1 | tail -1
