# Files, their times, modes and contents by coreutils, one by one.
export LC_ALL=C TZ=UTC
umask 022
look() { find "$1" -mindepth 1 -printf '%P %y %m %U %G %n %T+ %l\n' | grep -v '^script' | sort; }
mkdir a; cd a || exit
for i in 1 2 3; do echo "file $i" >f$i; done
mkdir -p d/e/f; echo deep >d/e/f/g; ln -s f1 s; ln -s nowhere dangling; ln f2 hard; mkfifo -m 600 fifo
chmod 640 f1; chown 1000:1000 f3; chown -h 12:13 s; chmod 4755 f2; chmod 1777 d; chmod g+s d/e; chmod u=rwx,go=rX -R d/e/f
touch -d '2001-02-03 04:05:06.789' f1 f2 f3; touch -h -d '2002-02-03 04:05:06.123456789' s dangling
touch -d 2003-01-01 fifo d/e/f/g d/e/f d/e d; touch -r f1 -d '+1 day' f3; touch -a -t 200001010000 f1
cd ..; look a; stat -c '%n %s %a %h %F %x %y' a/f1 a/f2; ls -lR --time-style=long-iso a/d/e | grep -v '^total\|^d'
cp -a a b; look b | diff <(look a) - && echo 'cp -a: same'; diff -r --no-dereference a/d b/d && echo same
cd b || exit
sort -r f1 f2 f3; for sum in cksum sum md5sum sha1sum sha224sum sha256sum sha384sum sha512sum b2sum; do $sum f1; done; sha256sum f? | sha256sum -c
dd if=/dev/zero of=z bs=1000 count=10 seek=3 status=none; stat -c %s z; dd if=z of=z2 bs=512 skip=2 conv=sync status=none; stat -c %s z2; tr '\0' x <z | dd bs=7 count=1 2>/dev/null; echo
seq 30000 >n; split -b 100000 n part.; cat part.* | cmp - n && ls part.*; split -n l/4 --filter='md5sum' n; csplit -s -f cs n 100 2000 && wc -l cs0*; shuf --random-source=n -n 5 n; shuf n | sort -n | cmp - n && tac n | sort -n -S 50k -T . | md5sum
truncate -s 1M t; stat -c '%s %b' t; truncate -s -100 t; stat -c %s t; truncate -s %4096 t; stat -c %s t; du --apparent-size -k t; cp --sparse=always t t2; stat -c '%s %b' t2; fallocate -l 5000 t3; stat -c %s t3
tail -n 2 n; tail -c 5 n; tail -n +29999 n; head -n -29998 n; head -c 5 n
tail -n 1 -f n --pid=$$ >followed & until grep -q 30000 followed; do sleep 0.1; done; echo more >>n; until grep -q more followed; do sleep 0.1; done; kill $!; wait $!; echo "tail -f: $?"; cat followed
ln -f f1 f3; stat -c %h f1; ln -sfn d dd; readlink dd; readlink -f dd/e/f | grep -c 'b/d/e/f$'; mv f1 moved; [ moved -ef f3 ] && echo 'still the same'; mv -n moved f2; ls moved; mv d newd; ls newd; mv -T newd d; mv -b f2 f3; ls f3*
find . -type f -size +90k -printf '%f\n' | sort; find . -perm -4000 | sort; find . -type l -lname 'now*'; find d -depth -print0 | xargs -0 -n1 echo; find . -name 'part.*' -delete; find . -name 'part.*'
mkdir x/y; mkdir -p x/y; rmdir x; rmdir -p x/y; rmdir nosuch; rm d; rm -r d; rm -f nosuch; rm nosuch; unlink dd; link n l; stat -c %h l; ls d
install -D -m 751 -o 5 -g 6 n in/st/all; stat -c '%a %u %g %s' in/st/all; install -d -m 700 in/dir; stat -c %a in/dir; f=$(mktemp -p .); stat -c '%a %s' "$f"; stat -c %a "$(mktemp -d -p .)"
sync; sync n; sync -f n; sync -d n; cp n /dev/full; echo x >/dev/full; echo $?; mknod null c 1 3 && echo lost >null && cat null; stat -c '%F %t %T' null; cp --reflink=always n nn; cp --reflink=auto n nn && cmp n nn; cp -l n hl; cp -s "$PWD/n" sl; cp --attributes-only n new; stat -c %s new; shred -u nn; ls nn
seq 5 | tee x1 x2 | paste -sd+; comm x1 <(seq 3 7); join x1 x2; paste x1 x2; expand <<<$'a\tb'; fold -w3 <<<abcdef; fmt -w 9 <<<'a b c d e f'; nl x1; od -c x1; pr -t -2 x1; cut -c1 x1; uniq -c <(printf 'a\na\nb\n'); tsort <<<'a b b c'; ptx <<<'a b'; numfmt --to=iec 123456789; base64 x1; base32 x1; basenc --z85 <<<abc; basenc -d --base16 <<<414243; echo; factor 123456789012345678; expr 3 + 4; seq 1 .5 2; printf '%s %d %x %5.2f\n' a 10 255 3.14159
timeout 0.2 sleep 9; echo $?; (timeout -s KILL 0.2 sleep 9; echo $?) 2>/dev/null; timeout --preserve-status 0.2 sleep 9; echo $?; nohup echo up; env -i A=b env; env -u HOME sh -c 'echo ${HOME-unset}'; nice -n 19 nice; stdbuf -oL echo line; nproc; arch; tty; chroot / pwd; chroot --userspec=1000:1000 / id; id nobody; groups; whoami; uname -som; printenv TERM; yes | head -c 1000000 | md5sum; pathchk -p 'a b'; dirname /a/b/c; basename /a/b/c.d .d; realpath -m /a/../b; date -u -d @1000000000; date -d 2020-01-31+1month +%F; TZ=EST5EDT date -d @1000000000; date -d nonsense; test -e x1; echo $?; [ -p fifo ]; echo $?; [ -k /tmp ]; echo $?
