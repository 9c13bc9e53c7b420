//! dynamo-kv-router: its compressed concurrent radix tree, events through its own worker loop on the calling thread.

use crate::corpus::Corpus;
use dynamo_kv_router::indexer::concurrent_radix_tree_compressed::ConcurrentRadixTreeCompressed;
use dynamo_kv_router::indexer::{SyncIndexer, WorkerTask};
use dynamo_kv_router::protocols::{
    ExternalSequenceBlockHash, KvCacheEvent, KvCacheEventData, KvCacheRemoveData, KvCacheStoreData,
    KvCacheStoredBlockData, LocalBlockHash, RouterEvent,
};

pub type Event = RouterEvent;
pub type Chain = Vec<LocalBlockHash>;

pub fn own(corpus: &Corpus, at: usize) -> Event {
    let event = &corpus.events[at];
    let blocks = corpus.blocks_of(event.first, event.count as u64);
    let data = if event.removal != 0 {
        KvCacheEventData::Removed(KvCacheRemoveData {
            block_hashes: blocks.iter().map(|b| ExternalSequenceBlockHash(b.hash)).collect(),
        })
    } else {
        KvCacheEventData::Stored(KvCacheStoreData {
            parent_hash: (event.depth > 0).then_some(ExternalSequenceBlockHash(event.parent)),
            start_position: None,
            blocks: blocks
                .iter()
                .map(|b| KvCacheStoredBlockData {
                    block_hash: ExternalSequenceBlockHash(b.hash),
                    tokens_hash: LocalBlockHash(b.local),
                    mm_extra_info: None,
                })
                .collect(),
        })
    };
    RouterEvent::new(event.engine as u64, KvCacheEvent { event_id: at as u64, data, dp_rank: 0 })
}

pub fn chain(corpus: &Corpus, at: usize) -> Chain {
    let prompt = &corpus.prompts[at];
    corpus.blocks_of(prompt.first, prompt.count).iter().map(|b| LocalBlockHash(b.local)).collect()
}

pub struct Peer {
    index: std::sync::Arc<ConcurrentRadixTreeCompressed>,
    lane: Option<(flume::Sender<WorkerTask>, std::thread::JoinHandle<()>)>,
}

impl Peer {
    pub fn new(_engines: u32) -> Self {
        Peer { index: std::sync::Arc::new(ConcurrentRadixTreeCompressed::new()), lane: None }
    }
    // The worker's map of blocks lives in its loop: what comes in several parts goes through one loop on a thread.
    pub fn apply(&mut self, events: Vec<Event>) {
        let index = self.index.clone();
        let (sender, _) = self.lane.get_or_insert_with(|| {
            let (sender, receiver) = flume::unbounded();
            (sender, std::thread::spawn(move || index.worker(receiver, None).expect("the worker loop")))
        });
        for event in events {
            sender.send(WorkerTask::Event(event)).expect("a worker");
        }
        while !sender.is_empty() {
            std::thread::yield_now();
        }
    }
    fn settle(&mut self) {
        if let Some((sender, thread)) = self.lane.take() {
            drop(sender);
            thread.join().expect("the worker thread");
        }
    }
    pub fn prepare(&mut self, events: Vec<Event>) -> flume::Receiver<WorkerTask> {
        let (sender, receiver) = flume::unbounded();
        for event in events {
            sender.send(WorkerTask::Event(event)).expect("a receiver");
        }
        receiver
    }
    pub fn drain(&mut self, events: flume::Receiver<WorkerTask>) {
        self.index.worker(events, None).expect("the worker loop");
    }
    pub fn look_up(&mut self, chain: &Chain) -> usize {
        self.index.find_matches_impl(chain, false).scores.len()
    }
    pub fn depths(&mut self, chain: &Chain, engines: u32) -> Vec<u32> {
        self.settle();
        let mut out = vec![0; engines as usize];
        for (worker, score) in self.index.find_matches_impl(chain, false).scores {
            out[worker.worker_id as usize] = score;
        }
        out
    }
}
