//! smg-radix-tree: RadixTree, single writer.

use crate::corpus::Corpus;
use radix_tree::{Config, HolderId, Overlap, OverlapScratch, RadixTree};

pub enum Event {
    Stored(u32, Option<u64>, Vec<(u64, u64)>),
    Removed(u32, Vec<u64>),
}
pub type Chain = Vec<u64>;

pub fn own(corpus: &Corpus, at: usize) -> Event {
    let event = &corpus.events[at];
    let blocks = corpus.blocks_of(event.first, event.count as u64);
    if event.removal != 0 {
        return Event::Removed(event.engine, blocks.iter().map(|b| b.hash).collect());
    }
    let stored = blocks.iter().map(|b| (b.hash, b.local)).collect();
    Event::Stored(event.engine, (event.depth > 0).then_some(event.parent), stored)
}

pub fn chain(corpus: &Corpus, at: usize) -> Chain {
    let prompt = &corpus.prompts[at];
    corpus.blocks_of(prompt.first, prompt.count).iter().map(|b| b.local).collect()
}

pub struct Peer {
    tree: RadixTree,
    holders: Vec<HolderId>,
    scratch: OverlapScratch,
    rows: Vec<Overlap>,
}

impl Peer {
    pub fn new(engines: u32) -> Self {
        let mut tree = RadixTree::new(Config::default());
        let holders = (0..engines).map(|e| tree.create_holder(&format!("http://{e}"))).collect();
        Peer { tree, holders, scratch: OverlapScratch::default(), rows: Vec::new() }
    }
    pub fn apply(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Stored(engine, parent, blocks) => {
                    self.tree
                        .store(self.holders[engine as usize], parent, &blocks)
                        .expect("the corpus stores behind known parents");
                }
                Event::Removed(engine, keys) => {
                    self.tree.remove(self.holders[engine as usize], &keys);
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
        self.tree.overlap(chain, &mut self.scratch, &mut self.rows);
        self.rows.len()
    }
    pub fn depths(&mut self, chain: &Chain, engines: u32) -> Vec<u32> {
        self.look_up(chain);
        let mut out = vec![0; engines as usize];
        for row in &self.rows {
            let engine = self.holders.iter().position(|id| *id == row.holder).expect("a holder of ours");
            out[engine] = row.depth;
        }
        out
    }
}
