# sqlite in all its journal modes, many rows at once, and several processes.
export LC_ALL=C
for mode in delete truncate persist memory wal off; do
	sqlite3 $mode.db "pragma journal_mode=$mode; create table t(id integer primary key, v text, n real); create index i on t(v);
		begin; with recursive c(x) as (select 1 union all select x+1 from c where x<1000) insert into t(v, n) select hex(x*7919), x/3.0 from c; commit;
		update t set n=n+1 where id%2; delete from t where id%10=0; begin; delete from t; rollback; select count(*), sum(length(v)), round(sum(n)) from t; pragma integrity_check;"
done
sqlite3 big.db "create table t(a integer primary key, b text); begin; with recursive c(x) as (select 1 union all select x+1 from c where x<100000) insert into t select x, printf('row %d', x) from c; commit; select count(*), max(a), min(b) from t;"
sqlite3 :memory: "create table t(a); insert into t values(1),(2),(3); select group_concat(a), avg(a) from t;"
for i in 1 2 3 4; do sqlite3 -cmd '.timeout 60000' wal.db "begin immediate; insert into t(v) values('p$i'); commit;" & done; wait
sqlite3 wal.db "select count(*) from t where v like 'p%'; pragma wal_checkpoint(truncate);"; sqlite3 big.db "vacuum; pragma page_count;" ".backup copy.db"; sqlite3 copy.db 'select count(*) from t'
sqlite3 delete.db .dump | sqlite3 again.db; sqlite3 again.db 'select count(*) from t'; sqlite3 -csv big.db 'select * from t limit 2'; ls *.db*; stat -c '%n %s' memory.db
