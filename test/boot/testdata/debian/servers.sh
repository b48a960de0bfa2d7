# Servers and clients on the loopback device, interpreters and tools.
# soak
# memory 1024
# seconds 3000
export LC_ALL=C
seq 100000 | openssl dgst -sha256; openssl genrsa -out k.pem 2048; openssl req -x509 -key k.pem -subj /CN=localhost -days 3650 -out c.pem; openssl x509 -in c.pem -noout -subject
openssl s_server -key k.pem -cert c.pem -accept 127.0.0.1:4433 -www -quiet & p=$!; until curl -ks https://127.0.0.1:4433/ >/dev/null; do sleep 0.2; done; echo Q | openssl s_client -connect 127.0.0.1:4433 2>&1 | grep -c 'BEGIN CERT'; curl -ks https://127.0.0.1:4433/ | head -1; kill $p; wait $p; echo $?
echo data | openssl enc -aes-256-cbc -pbkdf2 -k pw | openssl enc -d -aes-256-cbc -pbkdf2 -k pw; openssl rand -hex 8 | wc -c
echo hello > idx; busybox httpd -f -p 127.0.0.1:8080 -h . & h=$!; until curl -s http://127.0.0.1:8080/idx >/dev/null; do sleep 0.2; done; curl -s http://127.0.0.1:8080/idx; curl -s -o /dev/null -w '%{http_code}\n' http://localhost:8080/none; 
ssh-keygen -q -t ed25519 -N '' -f key; ssh-keygen -lf key.pub | awk '{print $1,$4}'; 
export GNUPGHOME=$PWD/gh; mkdir -m 700 gh; gpg --batch --quiet --passphrase '' --quick-gen-key me@x default default never 2>&1 | grep -c -i revoc; echo secret | gpg --batch -q -e -r me@x --trust-model always | gpg --batch -q -d; gpgconf --kill gpg-agent
convert -size 64x64 gradient:red-blue x.png; identify x.png | awk '{print $2,$3}'; convert x.png -resize 50% -rotate 90 y.gif; identify y.gif | awk '{print $2,$3}'
php -d extension=pdo -d extension=pdo_sqlite -r 'echo array_sum(range(1,1000)), " ", md5("x"), "\n"; $d=new PDO("sqlite::memory:"); foreach($d->query("select 1+1") as $r) echo $r[0],"\n"; echo strlen(file_get_contents("http://127.0.0.1:8080/idx")),"\n"; $p=proc_open("cat",[["pipe","r"],["pipe","w"]],$pp); fwrite($pp[0],"abc"); fclose($pp[0]); echo stream_get_contents($pp[1]),"\n";'
guile -c '(display (apply + (iota 1000))) (newline)'; 
lua5.4 -e 'local t={} for i=1,1000 do t[#t+1]=i*i end print(#t, t[1000], os.time{year=2020,month=1,day=1,hour=0}, io.popen("echo hi"):read("a"))'
ruby -e 'puts (1..10).map{|x| x*x}.sum; t=(1..4).map{|i| Thread.new{ i*2 }}; p t.map(&:value); p `echo sub`; r,w=IO.pipe; fork{ w.puts "child"; exit!(3)}; w.close; p r.read; Process.wait; p $?.exitstatus; require "json"; p JSON.parse("{\"a\":[1]}"); require "digest"; puts Digest::SHA256.hexdigest("x"); require "socket"; s=TCPServer.new("127.0.0.1",0); Thread.new{c=s.accept; c.puts c.gets.upcase; c.close}; c=TCPSocket.new("127.0.0.1",s.addr[1]); c.puts "hey"; p c.read; Ractor.new{1}.take; p Dir.glob("/etc/ss*/*").size'
erl -noshell -eval 'io:format("~p~n",[lists:sum(lists:seq(1,100))]), P=[spawn(fun() -> receive X -> X end end) || _ <- lists:seq(1,10000)], [X ! 1 || X <- P], io:format("~s~n",[os:cmd("echo os")]), {ok,L}=gen_tcp:listen(0,[{active,false}]), {ok,Po}=inet:port(L), {ok,C}=gen_tcp:connect("127.0.0.1",Po,[]), gen_tcp:close(C), halt(3).'; echo $?
cat > o.ml <<X
let () = Printf.printf "%d\n" (List.fold_left (+) 0 (List.init 1000 (fun x -> x))); let p = Unix.fork () in if p = 0 then exit 4 else match Unix.wait () with _, Unix.WEXITED n -> print_int n; print_newline () | _ -> ()
X
ocaml -I +unix unix.cma o.ml; tclsh <<< 'puts [expr 2**100]; set f [open "|cat" r+]; puts $f hi; flush $f; puts [gets $f]'; redis-server --port 0 --unixsocket $PWD/s --save '' --daemonize yes >/dev/null; until [ -S s ]; do sleep 0.2; done; redis-cli -s s set a b; redis-cli -s s get a; redis-cli -s s shutdown nosave;  (echo one; sleep 1) | nc -l -U us > o & n=$! ; until [ -S us ]; do sleep 0.2; done; echo two | nc -U -N us; wait $n; cat o; socat -u EXEC:'echo so' -; kill $h
