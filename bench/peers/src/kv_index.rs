//! kv-index: ChainIndex with one map a worker, looked up by score_into.

use crate::corpus::Corpus;
use kv_index::{ChainBlockMap, ChainIndex, ContentHash, SequenceHash, StoredBlock};

pub enum Event {
    Stored(u32, Option<SequenceHash>, Vec<StoredBlock>),
    Removed(u32, Vec<SequenceHash>),
}
pub type Chain = Vec<u64>;

pub fn own(corpus: &Corpus, at: usize) -> Event {
    let event = &corpus.events[at];
    let blocks = corpus.blocks_of(event.first, event.count as u64);
    if event.removal != 0 {
        return Event::Removed(event.engine, blocks.iter().map(|b| SequenceHash(b.hash)).collect());
    }
    let stored = blocks
        .iter()
        .map(|b| StoredBlock { seq_hash: SequenceHash(b.hash), content_hash: ContentHash(b.local) })
        .collect();
    Event::Stored(event.engine, (event.depth > 0).then_some(SequenceHash(event.parent)), stored)
}

pub fn chain(corpus: &Corpus, at: usize) -> Chain {
    let prompt = &corpus.prompts[at];
    corpus.blocks_of(prompt.first, prompt.count).iter().map(|b| b.local).collect()
}

pub struct Peer {
    index: ChainIndex,
    ids: Vec<u32>,
    maps: Vec<ChainBlockMap>,
    rows: Vec<(u32, u32)>,
}

impl Peer {
    pub fn new(engines: u32) -> Self {
        let index = ChainIndex::new();
        let ids = (0..engines).map(|e| index.intern_worker(&format!("http://{e}")).expect("room for a worker")).collect();
        let maps = (0..engines).map(|_| ChainBlockMap::new()).collect();
        Peer { index, ids, maps, rows: Vec::new() }
    }
    pub fn apply(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Stored(engine, parent, blocks) => self
                    .index
                    .apply_stored(self.ids[engine as usize], &blocks, parent, &mut self.maps[engine as usize])
                    .expect("the corpus stores behind known parents"),
                Event::Removed(engine, hashes) => {
                    self.index.apply_removed(self.ids[engine as usize], &hashes, &mut self.maps[engine as usize])
                }
            }
        }
    }
    pub fn prepare(&mut self, events: Vec<Event>) -> Vec<Event> {
        events
    }
    pub fn drain(&mut self, events: Vec<Event>) {
        self.apply(events)
    }
    pub fn look_up(&mut self, chain: &Chain) -> usize {
        let rows = &mut self.rows;
        rows.clear();
        self.index.score_into(chain, |h| *h, false, |worker, score| rows.push((worker, score)));
        rows.len()
    }
    pub fn depths(&mut self, chain: &Chain, engines: u32) -> Vec<u32> {
        self.look_up(chain);
        let mut out = vec![0; engines as usize];
        for &(worker, score) in &self.rows {
            let engine = self.ids.iter().position(|&id| id == worker).expect("a worker of ours");
            out[engine] = score;
        }
        out
    }
}
