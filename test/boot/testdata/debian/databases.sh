# redis saves in a child, PostgreSQL's server of many processes answers over a Unix socket.
# system
# memory 768
d=$PWD
redis-server --port 0 --unixsocket $d/s --dir $d --daemonize yes --save "" --enable-debug-command yes >/dev/null
until redis-cli -s s ping 2>/dev/null | grep -q PONG; do sleep 0.2; done
redis-cli -s s debug populate 20000 key 100; redis-cli -s s bgsave
while redis-cli -s s info persistence | grep -q 'rdb_bgsave_in_progress:1'; do sleep 0.2; done
redis-cli -s s info persistence | tr -d '\r' | grep -E 'rdb_last_bgsave_status|rdb_saves'
redis-check-rdb dump.rdb | grep -o '20000 keys read'; redis-cli -s s shutdown nosave; echo "status $?"
export PATH=/usr/lib/postgresql/15/bin:$PATH LC_ALL=C
as() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
mkdir pg; chown nobody:nogroup pg; chmod 755 $d
as initdb -A trust -U postgres -D pg/data | grep -c ok$
as pg_ctl -D pg/data -o "-k $d/pg -c listen_addresses=''" -l pg/log -w -t 120 start | tail -1
sql() { as psql -h $d/pg -U postgres -Atc "$1"; }
sql "create table t as select i, md5(i::text) m from generate_series(1,10000) i"; sql "create index on t(m)"; sql "select count(*), min(m) from t"
for i in 1 2 3 4; do sql "insert into t select i, 'x' from generate_series(1,1000) i; select pg_sleep(0.2)" >/dev/null & done; wait $(jobs -p)
sql "select count(*) from t"; sql "checkpoint"; sql "begin; delete from t; rollback"; sql "select count(*) from t where m = 'x'"
as pg_ctl -D pg/data -m fast -w stop | tail -1; grep -c 'database system is shut down' pg/log
