# Compressors, archivers and text tools over a file of tens of megabytes, and trees there and back.
# soak
# seconds 5400
export LC_ALL=C TZ=UTC
perl -e 'srand(1); for (1..1000000) { printf "%d line number %d %x\n", $_, rand(1e6), rand(1e9) } ' > big; ls -l big | awk '{print $5}'; md5sum big
for c in gzip\ -n xz\ -0 zstd\ -q bzip2 lz4\ -q; do set -- $c; $c -c big > z; $1 -dc z | md5sum;  md5sum < z; done
mkdir -p a/json/b a/email; (cd a; split -a 3 -l 2000 ../big email/part; for i in $(seq 200); do seq $i >json/b/n$i.txt; ln -s b/n$i.txt json/s$i; done; ln email/partaaa json/hard; chmod 600 json/b/n1.txt; touch -d 2001-01-01 json/b/n2.txt; mkfifo json/fifo); tar cf t.tar --sort=name --mtime=@0 -C a json email; md5sum t.tar; mkdir u; tar xf t.tar -C u; rm a/json/fifo u/json/fifo; diff -r u/json a/json && echo same; tar czf t.tgz u; tar tzf t.tgz | sort | md5sum; tar cJf - u | tar xJf - -O u/email/partaab | md5sum; tar --zstd -cf t.zst u; tar tf t.zst | wc -l
(cd u && find . | sort | cpio -o --quiet -H newc) > c.cpio; mkdir v; (cd v; cpio -id --quiet < ../c.cpio); diff -r u v && echo same
zip -qr a.zip u; unzip -tq a.zip; mkdir w; unzip -q a.zip -d w; diff -r u w/u && echo same
rsync -a u/ r/; diff -r u r && echo same; echo x >> u/json/b/n3.txt; rsync -ai u/ r/; rsync -a --delete u/json/ r/; ls r | md5sum
find a -name '*.txt' | sort | xargs grep -l 77 | md5sum; find a -name 'part*' | sort | xargs cat | wc; awk '{n[$2]++} END {for (k in n) print k, n[k]}' big | sort | head -3; sed -n 's/line/X/;100p' big; gawk 'BEGIN{print length("abc"), strftime("%Y", 0, 1)}'; rg -c '^1' a/json/b | sort | md5sum; jq -c '.a[1]' <<< '{"a":[1,{"b":2}]}'; bc -l <<< 'scale=20; 4*a(1)'; dc -e '2 100 ^ p'; file -b /etc/passwd t.tgz | sed 's/,.*//'; ed -s t.ed <<< $'a\nhello\n.\nw t.ed\nq'; cat t.ed; m4 <<< 'define(a,b)a'
