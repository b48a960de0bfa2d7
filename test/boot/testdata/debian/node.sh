# node: worker threads, HTTP, files, processes.
# soak
# memory 1024
# seconds 1800
cat > a.js <<'X'
const {Worker,isMainThread,parentPort,workerData}=require('worker_threads');const http=require('http'),fs=require('fs'),cp=require('child_process'),os=require('os'),crypto=require('crypto'),zlib=require('zlib');
if(!isMainThread){let s=0;for(let i=0;i<1e6;i++)s+=i%workerData;parentPort.postMessage(s);}
else (async()=>{console.log(process.arch,process.platform);
console.log(await Promise.all([1,2,3,4].map(n=>new Promise((r,j)=>{const w=new Worker(__filename,{workerData:n+1});w.on('message',r);w.on('error',j)}))));
const s=http.createServer((q,r)=>{let b='';q.on('data',d=>b+=d);q.on('end',()=>r.end(b.toUpperCase()))});await new Promise(r=>s.listen(0,'127.0.0.1',r));
const p=s.address().port;const res=await Promise.all([...Array(20).keys()].map(i=>new Promise((ok,no)=>{const q=http.request({port:p,host:'127.0.0.1',method:'POST',agent:false},r=>{let b='';r.on('data',d=>b+=d);r.on('end',()=>ok(b))});q.on('error',no);q.end('body'+i)})));console.log(res.join());s.close();
fs.writeFileSync('f','x'.repeat(1e5));console.log(fs.statSync('f').size,(await fs.promises.readFile('f')).length,fs.readdirSync('.').sort());
console.log(cp.execSync('echo child; exit 0').toString(),cp.spawnSync('sh',['-c','exit 7']).status);
const c=cp.spawn('cat');c.stdin.end('piped');let o='';for await(const d of c.stdout)o+=d;console.log(o);
const k=cp.fork(__filename+'2.js');k.send({a:1});k.on('message',m=>{console.log(m);k.disconnect()});await new Promise(r=>k.on('exit',r));
console.log(crypto.createHash('sha256').update('x').digest('hex'),crypto.pbkdf2Sync('a','b',1000,8,'sha1').toString('hex'),zlib.gunzipSync(zlib.gzipSync('zip')).toString());
await new Promise(r=>{const w=fs.watch('.',(e,n)=>{if(n=='w'){console.log('watched',n);w.close();r()}});setTimeout(()=>fs.writeFileSync('w','1'),100)});
const d=require('dns');console.log(await d.promises.lookup('localhost',{family:4}));
let t=setInterval(()=>{},10);setTimeout(()=>{clearInterval(t);console.log('done');process.exit(5)},100)})();
X
echo 'process.on("message",m=>{m.b=2;process.send(m)})' > a.js2.js
node a.js; echo $?
