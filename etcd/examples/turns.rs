//! scratch
use clasp_engine::*;
use clasp_etcd::{testing::LocalCluster, *};
use std::{
    sync::{atomic::*, *},
    time::*,
};
fn main() {
    let hosts: usize = std::env::args().nth(1).map_or(2, |n| n.parse().unwrap());
    let local = LocalCluster::start(3).unwrap();
    let address = local.address("/t");
    // delete RPC
    let rt = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut deletes: Vec<f64> = rt.block_on(async {
        let mut c = etcd_client::Client::connect(&address.members()[..1], None)
            .await
            .unwrap();
        let mut v = vec![];
        for i in 0..500 {
            c.put(format!("k{i}"), "", None).await.unwrap();
            let t = Instant::now();
            c.delete(format!("k{i}"), None).await.unwrap();
            v.push(t.elapsed().as_secs_f64() * 1e3);
        }
        v
    });
    let pct = |v: &mut Vec<f64>| {
        v.sort_by(f64::total_cmp);
        (v[v.len() / 2], v[v.len() * 9 / 10], v[v.len() * 99 / 100])
    };
    println!("delete {:?}", pct(&mut deletes));
    // uncontended
    let c = Cluster::connect(&address, &Options::default()).unwrap();
    let m = LockManager::new(Ceilings::default());
    let o = m.owner(Limits::default());
    let l = o.open(&Grant::new(c.space()), "u").unwrap();
    let mut acq = vec![];
    let mut tri = vec![];
    for _ in 0..300 {
        let t = Instant::now();
        let g = l.acquire_blocking(Mode::Exclusive, None).unwrap();
        acq.push(t.elapsed().as_secs_f64() * 1e3);
        drop(g);
        std::thread::sleep(Duration::from_millis(4));
        let t = Instant::now();
        let g = l.try_acquire(Mode::Exclusive);
        tri.push(t.elapsed().as_secs_f64() * 1e3);
        drop(g);
        std::thread::sleep(Duration::from_millis(4));
    }
    println!("acquire {:?} try {:?}", pct(&mut acq), pct(&mut tri));
    // contended
    let stop = Arc::new(AtomicBool::new(false));
    let released = Arc::new(Mutex::new((Instant::now(), usize::MAX)));
    let begun = Instant::now();
    let threads: Vec<_> = (0..hosts)
        .map(|h| {
            let (stop, released, address) = (stop.clone(), released.clone(), address.clone());
            std::thread::spawn(move || {
                let c = Cluster::connect(&address, &Options::default()).unwrap();
                let m = LockManager::new(Ceilings::default());
                let o = m.owner(Limits::default());
                let l = o.open(&Grant::new(c.space()), "a").unwrap();
                let mut v = vec![];
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    let g = l.acquire_blocking(Mode::Exclusive, None).unwrap();
                    let now = Instant::now();
                    let (at, who) = *released.lock().unwrap();
                    if who != h {
                        v.push((now - at).as_secs_f64() * 1e3);
                    }
                    n += 1;
                    *released.lock().unwrap() = (Instant::now(), h);
                    drop(g);
                }
                (v, n)
            })
        })
        .collect();
    let mut probe: Vec<f64> = rt.block_on(async {
        let mut c = etcd_client::Client::connect(&address.members()[..1], None)
            .await
            .unwrap();
        let mut v = vec![];
        let end = Instant::now() + Duration::from_secs(6);
        let mut i = 0;
        while Instant::now() < end {
            i += 1;
            c.put(format!("k{i}"), "", None).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            let t = Instant::now();
            c.delete(format!("k{i}"), None).await.unwrap();
            v.push(t.elapsed().as_secs_f64() * 1e3);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        v
    });
    println!("delete under load {:?}", pct(&mut probe));
    stop.store(true, Ordering::Relaxed);
    let mut all = vec![];
    let mut turns = 0;
    for t in threads {
        let (v, n) = t.join().unwrap();
        all.extend(v);
        turns += n;
    }
    println!(
        "hosts {hosts}: handoffs {} {:?} turns/s {}",
        all.len(),
        pct(&mut all),
        turns as f64 / begun.elapsed().as_secs_f64()
    );
}
