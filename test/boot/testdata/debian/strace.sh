# What strace sees of system calls, processes and signals, and what it changes.
strace -f -o t sh -c 'ls / >/dev/null; (exit 3); echo $?'
grep -oE '\+\+\+ exited with [0-9]+' t | sort | uniq -c | sed 's/^ *//'
grep -c 'execve("/usr/bin/ls"\|execve("/bin/ls"' t
strace -c -o c true; head -1 c; tail -1 c | awk '{print $NF}'
echo hello >f; strace -e trace=openat,read,write,close -o t cat f; grep -A5 '"f"' t
strace -o t -e trace=write echo traced; cat t
exec 3>&2 2>/dev/null # no word of bash's about the job
sleep 100 & p=$!
(while ! grep -q "TracerPid:.*[1-9]" /proc/$p/status; do sleep 0.1; done; kill -USR1 $p) &
strace -qq -e trace=none -p $p 2>&1 | sed "s/si_pid=[0-9]*/si_pid=N/"; wait $p; echo "status $?"; exec 2>&3
strace -qq -o t -e trace=getppid -e inject=getppid:retval=42 bash -c 'echo "parent $PPID"'; cat t
strace -qq -o t -P f -e inject=openat:error=EACCES cat f 2>&1 | grep -v resolved; grep -c INJECTED t
strace -qq -f -o t -e trace=kill sh -c 'kill -TERM $$'; sed -E 's/^[0-9]+ +//; s/kill\([0-9]+/kill(N/; s/si_pid=[0-9]+/si_pid=N/; s/ +/ /g' t
strace -qq -f --seccomp-bpf -o t -e trace=chdir sh -c 'cd /; (cd /tmp); /bin/true'; sed -E 's/^[0-9]+ +//' t | grep -v SIGCHLD
