//! Measures one peer on a corpus file that `index_figures corpus` wrote: the same events, the same prompts, the same
//! figures. One JSON object on stdout.
//!
//!   index-peers ingest|lookup|deep|memory|exact CORPUS
//!
//! Peers are driven as their own benchmarks drive them: owned events, one after the other, lookups into the cheapest
//! result they offer.

mod corpus;
mod peer;

use corpus::Corpus;
use peer::{Chain, Peer};
use std::collections::HashSet;
use std::time::Instant;

fn cpu_seconds() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a plain out parameter.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

fn percentile(values: &mut [u64], part: f64) -> u64 {
    values.sort_unstable();
    values[((values.len() as f64 * part) as usize).min(values.len() - 1)]
}

fn clock_cost() -> u64 {
    let mut costs: Vec<u64> = (0..2001)
        .map(|_| {
            let start = Instant::now();
            start.elapsed().as_nanos() as u64
        })
        .collect();
    percentile(&mut costs, 0.5)
}

struct Random(u64);
impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % n
    }
}

struct Sweep(Vec<u8>);
impl Sweep {
    fn new() -> Self {
        Sweep(vec![0; 96 << 20])
    }
    fn run(&mut self) {
        for i in (0..self.0.len()).step_by(64) {
            self.0[i] = self.0[i].wrapping_add(1);
        }
        std::hint::black_box(&self.0);
    }
}

fn anonymous_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap_or("");
    let kilobytes: f64 = line.split_whitespace().nth(1).and_then(|w| w.parse().ok()).unwrap_or(0.0);
    kilobytes * 1024.0
}

fn trim() {
    // SAFETY: no arguments that could be wrong.
    unsafe { libc::malloc_trim(0) };
}

fn load(peer: &mut Peer, corpus: &Corpus, from: usize, to: usize) {
    for start in (from..to).step_by(4096) {
        let events: Vec<_> = (start..to.min(start + 4096)).map(|i| peer::own(corpus, i)).collect();
        peer.apply(events);
    }
}

fn ingest(corpus: &Corpus) -> String {
    let mut peer = Peer::new(corpus.engines);
    let events: Vec<_> = (0..corpus.events.len()).map(|i| peer::own(corpus, i)).collect();
    let ops: u64 = corpus.events.iter().map(|e| e.count as u64).sum();
    let prepared = peer.prepare(events);
    let start = cpu_seconds();
    peer.drain(prepared);
    let seconds = cpu_seconds() - start;
    format!("{{\"ops\": {ops}, \"seconds\": {seconds}, \"ops_per_s\": {:.6e}}}", ops as f64 / seconds)
}

// Without a writer beside it: a peer's writer keeps its state on one thread, and the second half of the corpus would need
// each peer's own machinery. It flatters the peers.
fn lookup(corpus: &Corpus) -> String {
    let mut peer = Peer::new(corpus.engines);
    load(&mut peer, corpus, 0, corpus.events.len() / 2);
    let middle = corpus.prompts.len() / 2;
    let chains: Vec<Chain> = (middle.saturating_sub(500)..(middle + 500).min(corpus.prompts.len()))
        .map(|i| peer::chain(corpus, i))
        .collect();
    let cost = clock_cost();
    let mut random = Random(1);
    let mut rows = 0u64;
    let mut warm: Vec<u64> = Vec::new();
    for _ in 0..300_000 {
        let chain = &chains[random.below(chains.len())];
        let start = Instant::now();
        let got = peer.look_up(chain);
        warm.push((start.elapsed().as_nanos() as u64).saturating_sub(cost));
        rows += got as u64;
    }
    let mut sweep = Sweep::new();
    let mut cold: Vec<u64> = Vec::new();
    for _ in 0..600 {
        let chain = &chains[random.below(chains.len())];
        sweep.run();
        let start = Instant::now();
        peer.look_up(chain);
        cold.push((start.elapsed().as_nanos() as u64).saturating_sub(cost));
    }
    format!(
        "{{\"lookups\": {}, \"rows_mean\": {}, \"p50\": {}, \"p99\": {}, \"p50_cold\": {}, \"p99_cold\": {}}}",
        warm.len(),
        rows as f64 / warm.len() as f64,
        percentile(&mut warm, 0.5),
        percentile(&mut warm, 0.99),
        percentile(&mut cold, 0.5),
        percentile(&mut cold, 0.99)
    )
}

fn deep(corpus: &Corpus) -> String {
    let mut peer = Peer::new(corpus.engines);
    load(&mut peer, corpus, 0, corpus.events.len());
    let chains: Vec<Chain> = (0..corpus.prompts.len()).map(|i| peer::chain(corpus, i)).collect();
    let cost = clock_cost();
    let mut hot: Vec<u64> = Vec::new();
    for i in 0..chains.len() * 20 {
        let start = Instant::now();
        peer.look_up(&chains[i / 20]);
        hot.push((start.elapsed().as_nanos() as u64).saturating_sub(cost));
    }
    let mut sweep = Sweep::new();
    let mut cold: Vec<u64> = Vec::new();
    for i in 0..600 {
        sweep.run();
        let start = Instant::now();
        peer.look_up(&chains[i % chains.len()]);
        cold.push((start.elapsed().as_nanos() as u64).saturating_sub(cost));
    }
    format!(
        "{{\"hot\": {}, \"cold\": {}}}",
        percentile(&mut hot, 0.5) as f64 / 1e3,
        percentile(&mut cold, 0.5) as f64 / 1e3
    )
}

fn held(corpus: &Corpus) -> Vec<HashSet<u64>> {
    let mut held: Vec<HashSet<u64>> = vec![HashSet::new(); corpus.engines as usize];
    for event in corpus.events {
        for block in corpus.blocks_of(event.first, event.count as u64) {
            if event.removal != 0 {
                held[event.engine as usize].remove(&block.key);
            } else {
                held[event.engine as usize].insert(block.key);
            }
        }
    }
    held
}

fn memory(corpus: &Corpus) -> String {
    let blocks: i64 = corpus
        .events
        .iter()
        .map(|e| if e.removal != 0 { -(e.count as i64) } else { e.count as i64 })
        .sum();
    trim();
    let before = anonymous_bytes();
    let mut peer = Peer::new(corpus.engines);
    load(&mut peer, corpus, 0, corpus.events.len());
    trim();
    let bytes = anonymous_bytes() - before;
    std::hint::black_box(&peer);
    format!("{{\"held\": {blocks}, \"bytes_per_held_block\": {}}}", bytes / blocks as f64)
}

fn exact(corpus: &Corpus) -> String {
    let mut peer = Peer::new(corpus.engines);
    load(&mut peer, corpus, 0, corpus.events.len());
    let held = held(corpus);
    let mut wrong = 0u64;
    for (i, prompt) in corpus.prompts.iter().enumerate() {
        let depths = peer.depths(&peer::chain(corpus, i), corpus.engines);
        let blocks = corpus.blocks_of(prompt.first, prompt.count);
        for (engine, held) in held.iter().enumerate() {
            let depth = blocks.iter().take_while(|b| held.contains(&b.key)).count() as u32;
            wrong += (depths[engine] != depth) as u64;
        }
    }
    format!(
        "{{\"lookups\": {}, \"wrong_rows\": {wrong}, \"verdict\": \"{}\"}}",
        corpus.prompts.len(),
        if wrong == 0 { "exact" } else { "wrong" }
    )
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.len() != 3 {
        eprintln!("index-peers ingest|lookup|deep|memory|exact CORPUS");
        std::process::exit(2);
    }
    let Some(corpus) = Corpus::map(&arguments[2]) else {
        eprintln!("index-peers: cannot read the corpus {}", arguments[2]);
        std::process::exit(2);
    };
    let out = match arguments[1].as_str() {
        "ingest" => ingest(&corpus),
        "lookup" => lookup(&corpus),
        "deep" => deep(&corpus),
        "memory" => memory(&corpus),
        "exact" => exact(&corpus),
        other => {
            eprintln!("index-peers: no such figure: {other}");
            std::process::exit(2);
        }
    };
    println!("{out}");
}
