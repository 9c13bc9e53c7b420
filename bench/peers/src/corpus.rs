//! The file of `bench/index/corpus_file.h`, mapped.

#[repr(C)]
struct Head {
    magic: u64,
    events: u64,
    prompts: u64,
    blocks: u64,
    engines: u32,
    block_tokens: u32,
}

#[repr(C)]
pub struct Block {
    pub key: u64,
    pub hash: u64,
    pub local: u64,
}

#[repr(C)]
pub struct Event {
    pub engine: u32,
    pub removal: u32,
    pub first: u64,
    pub count: u32,
    pub depth: u32,
    pub parent: u64,
}

#[repr(C)]
pub struct Prompt {
    pub first: u64,
    pub count: u64,
}

pub struct Corpus {
    pub engines: u32,
    pub events: &'static [Event],
    pub prompts: &'static [Prompt],
    pub blocks: &'static [Block],
}

const MAGIC: u64 = 0x3158_4449_564b_5057;

impl Corpus {
    pub fn map(path: &str) -> Option<Corpus> {
        use std::os::fd::AsRawFd;
        let file = std::fs::File::open(path).ok()?;
        let size = file.metadata().ok()?.len() as usize;
        if size < std::mem::size_of::<Head>() {
            return None;
        }
        // SAFETY: a read-only mapping of a file that nobody changes; kept for the rest of the process.
        unsafe {
            let map = libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                file.as_raw_fd(),
                0,
            );
            if map == libc::MAP_FAILED {
                return None;
            }
            let head = &*(map as *const Head);
            let (events, prompts, blocks) = (head.events as usize, head.prompts as usize, head.blocks as usize);
            let wanted = std::mem::size_of::<Head>()
                + events * std::mem::size_of::<Event>()
                + prompts * std::mem::size_of::<Prompt>()
                + blocks * std::mem::size_of::<Block>();
            if head.magic != MAGIC || wanted != size || head.block_tokens == 0 {
                return None;
            }
            let first = (map as *const u8).add(std::mem::size_of::<Head>()) as *const Event;
            let second = first.add(events) as *const Prompt;
            let third = second.add(prompts) as *const Block;
            Some(Corpus {
                engines: head.engines,
                events: std::slice::from_raw_parts(first, events),
                prompts: std::slice::from_raw_parts(second, prompts),
                blocks: std::slice::from_raw_parts(third, blocks),
            })
        }
    }

    pub fn blocks_of(&self, first: u64, count: u64) -> &'static [Block] {
        &self.blocks[first as usize..(first + count) as usize]
    }
}
