// Rust's threads, channels and locks.
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{mpsc, Arc, Barrier, Condvar, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

fn ok(name: &str, good: bool) -> bool {
    println!("{} {}", if good { "ok" } else { "FAIL" }, name);
    good
}

fn main() {
    let mut good = true;

    let (tx, rx) = mpsc::channel();
    for i in 0..8u64 {
        let tx = tx.clone();
        thread::spawn(move || {
            for j in 0..5000 {
                tx.send(i * 5000 + j).unwrap();
            }
        });
    }
    drop(tx);
    good &= ok("channel", rx.iter().sum::<u64>() == 39999 * 40000 / 2);

    let counter = Arc::new(Mutex::new(0u64));
    let atomic = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (counter, atomic) = (counter.clone(), atomic.clone());
            thread::spawn(move || {
                for _ in 0..10000 {
                    *counter.lock().unwrap() += 1;
                    atomic.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
    good &= ok("mutex", *counter.lock().unwrap() == 80000 && atomic.load(Ordering::SeqCst) == 80000);

    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let other = pair.clone();
    let t = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        *other.0.lock().unwrap() = true;
        other.1.notify_one();
    });
    let start = Instant::now();
    let mut flag = pair.0.lock().unwrap();
    while !*flag {
        flag = pair.1.wait(flag).unwrap();
    }
    t.join().unwrap();
    good &= ok("condvar", start.elapsed() >= Duration::from_millis(20));
    drop(flag);
    let guard = pair.0.lock().unwrap();
    let (_guard, timeout) = pair.1.wait_timeout(guard, Duration::from_millis(20)).unwrap();
    good &= ok("timeout", timeout.timed_out());

    let lock = Arc::new(RwLock::new((0, 0)));
    let barrier = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..4)
        .map(|i| {
            let (lock, barrier) = (lock.clone(), barrier.clone());
            thread::spawn(move || {
                let mut fine = true;
                for _ in 0..1000 {
                    if i == 0 {
                        let mut v = lock.write().unwrap();
                        v.0 += 1;
                        v.1 += 1;
                    } else {
                        let v = lock.read().unwrap();
                        fine &= v.0 == v.1;
                    }
                }
                barrier.wait();
                fine
            })
        })
        .collect();
    let fine = threads.into_iter().map(|t| t.join().unwrap()).fold(true, |a, b| a & b);
    good &= ok("rwlock", fine);

    let t = thread::Builder::new().name("named".into()).spawn(|| {
        thread::park();
        thread::current().name() == Some("named")
    });
    let t = t.unwrap();
    t.thread().unpark();
    good &= ok("park", t.join().unwrap());

    let caught = thread::spawn(|| std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(7))).is_err());
    good &= ok("unwind", caught.join().unwrap());
    std::process::exit(if good { 0 } else { 1 });
}
