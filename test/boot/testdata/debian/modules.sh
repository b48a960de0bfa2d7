# The whole of Python's standard library, its C libraries and what it asks of the system when it is imported.
export LC_ALL=C PYTHONUTF8=1
python3 - <<'X'
import importlib, io, sys, warnings
warnings.simplefilter('ignore')
# What prints, opens windows, needs a package of its own, or ends the process.
skip = {'antigravity', 'this', 'idlelib', 'tkinter', 'turtle', 'turtledemo', 'lib2to3', 'distutils', 'ensurepip', 'nntplib', 'cgi', 'cgitb', 'msilib'}
done = failed = 0
for name in sorted(sys.stdlib_module_names):
    if name.startswith('_') or name in skip: continue
    try: importlib.import_module(name); done += 1
    except ImportError as e: failed += 1; print(name, e)
print(done, 'modules,', failed, 'not on Linux either')
X
python3 - <<'X'
import array, bz2, ctypes, decimal, fcntl, gzip, hashlib, hmac, json, lzma, mmap, os, pickle, pwd, random, resource, select, selectors, shutil, sqlite3, ssl, stat, struct, subprocess, tarfile, tempfile, termios, threading, time, urllib.parse, uuid, zipfile, zlib, zoneinfo
data = json.dumps([{'a': i, 'b': [1.5, None, 'ü']} for i in range(5000)]).encode()
for c in bz2, lzma, zlib, gzip: print(c.__name__, c.decompress(c.compress(data)) == data)
for h in sorted(hashlib.algorithms_guaranteed):
    if 'shake' not in h: print(h, hashlib.new(h, data).hexdigest()[:20])
print(hmac.new(b'k', data, 'sha256').hexdigest()[:20], zlib.crc32(data), ssl.OPENSSL_VERSION.split()[0], len(ssl.create_default_context().get_ciphers()) > 5)
random.seed(1); print(random.random(), decimal.Decimal(2).sqrt(), uuid.uuid5(uuid.NAMESPACE_DNS, 'elver'), pickle.loads(pickle.dumps(data)) == data)
with tempfile.TemporaryDirectory() as d:
    os.chdir(d)
    for i in range(20): os.makedirs(f'd{i % 4}/e{i % 3}', exist_ok=True); open(f'd{i % 4}/e{i % 3}/f{i}', 'w').write('x' * i)
    print([(r, sorted(ds), sorted(fs)) for r, ds, fs in sorted(os.walk('.'))][:6])
    shutil.make_archive('all', 'gztar', '.', 'd0'); shutil.unpack_archive('all.tar.gz', 'out'); print(sorted(os.listdir('out/d0')))
    with zipfile.ZipFile('z.zip', 'w', zipfile.ZIP_DEFLATED) as z: z.write('d1/e1/f1'); print(z.namelist())
    with open('m', 'w+b') as f:
        f.truncate(3 << 20); m = mmap.mmap(f.fileno(), 0); m[1 << 20:(1 << 20) + 4] = b'here'; print(m.find(b'here')); m.resize(1 << 22); m.flush(); print(os.fstat(f.fileno()).st_size)
    shutil.copytree('d2', 'copy'); print(sorted(os.listdir('copy'))); shutil.rmtree('copy')
    db = sqlite3.connect('db'); db.execute('pragma journal_mode=wal'); db.execute('create table t(a, b)')
    with db: db.executemany('insert into t values(?, ?)', ((i, str(i)) for i in range(20000)))
    print(db.execute('select count(*), sum(a), max(b) from t').fetchone(), db.execute('pragma integrity_check').fetchone()); db.close()
    os.chdir('/')
class S(ctypes.Structure): _fields_ = [('a', ctypes.c_int), ('b', ctypes.c_double)]
libc = ctypes.CDLL(None); libc.qsort.restype = None
v = (ctypes.c_int * 5)(5, 1, 4, 2, 3); F = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
libc.qsort(v, 5, 4, F(lambda a, b: a[0] - b[0])); print(list(v), ctypes.sizeof(S))
lock, total = threading.Lock(), 0
def work():
    global total
    for _ in range(2000):
        with lock: total += 1
ts = [threading.Thread(target=work) for _ in range(16)]; [t.start() for t in ts]; [t.join() for t in ts]; print(total)
p = [subprocess.Popen(['sh', '-c', f'exit {i}']) for i in range(8)]; print([q.wait() for q in p])
print(resource.getrlimit(resource.RLIMIT_CORE)[0] >= 0, pwd.getpwuid(0).pw_name, stat.filemode(os.stat('/tmp').st_mode), os.sysconf('SC_PAGESIZE'), struct.pack('<id', 1, 2).hex(), len(os.sched_getaffinity(0)))
r, w = os.pipe(); pid = os.fork()
if pid == 0: os.write(w, b'child'); os._exit(3)
print(os.read(r, 9), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
m, s = os.openpty(); t = termios.tcgetattr(s); t[3] &= ~termios.ECHO; termios.tcsetattr(s, 0, t); os.write(m, b'line\n'); print(os.read(s, 99))
X
