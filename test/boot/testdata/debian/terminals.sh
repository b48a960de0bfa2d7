# Programs that drive others on a terminal of their own: script, expect with bash's job control, tmux, screen.
# system
script -qec 'echo in script; exit 4' /dev/null | tr -d '\r'; echo "status ${PIPESTATUS[0]}"
cat >e.tcl <<'END'
set timeout 20
set env(PS1) "P> "
log_user 0
proc see {what} { expect -ex $what { puts "seen: $what" } timeout { puts "missing: $what"; exit 1 } eof { puts "end before: $what"; exit 1 } }
spawn bash --norc -i
see "P> "; send "echo \$((40+2)) ready; sleep 100\r"; see "42 ready"; after 500; send "\003"
see "P> "; send "echo status \$?\r"; see "status 130"
see "P> "; send "echo \$((40+3)) ready; sleep 100\r"; see "43 ready"; after 500; send "\032"; see "Stopped"
see "P> "; send "bg; jobs\r"; see "Running"
see "P> "; send "fg\r"; see "sleep 100"; after 500; send "\003"
see "P> "; send "echo again \$?\r"; see "again 130"
see "P> "; send "exit 6\r"; expect eof
puts "status [lindex [wait] 3]"
END
expect e.tcl
export TERM=xterm
tmux -S tm -f /dev/null new-session -d 'bash --norc'; tmux -S tm send-keys 'echo from $((40+2))' Enter
for i in $(seq 100); do tmux -S tm capture-pane -p | grep '^from' && break; sleep 0.2; done
tmux -S tm split-window 'bash --norc'; tmux -S tm list-panes | wc -l; tmux -S tm kill-server; echo "status $?"
export SCREENDIR=$PWD/sc; mkdir -m 700 sc
screen -dmS s bash --norc; sleep 1; screen -S s -X stuff "echo screen works >$PWD/out"$'\r'
for i in $(seq 100); do [ -s out ] && break; sleep 0.2; done; cat out; screen -ls | grep -c Detached; screen -S s -X quit; echo "status $?"
