// A corpus as one binary file that our program and the peers' read alike: events in order, prompts to look up.
//
// Layout, all little-endian: Head; Event[events]; Prompt[prompts]; Block[blocks]. Offsets are in Blocks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace warmpath::bench {

inline constexpr std::uint64_t kMagic = 0x31'58'44'49'56'4B'50'57;  // "WPKVIDX1"

struct Head {
  std::uint64_t magic = kMagic;
  std::uint64_t events = 0;
  std::uint64_t prompts = 0;
  std::uint64_t blocks = 0;
  std::uint32_t engines = 0;
  std::uint32_t block_tokens = 0;
};

// One router block. `local` names its tokens alone, `key` and `hash` its whole prefix: the router's and the engine's.
struct Block {
  std::uint64_t key = 0;
  std::uint64_t hash = 0;
  std::uint64_t local = 0;
};

struct Event {
  std::uint32_t engine = 0;
  std::uint32_t removal = 0;
  std::uint64_t first = 0;  // its blocks
  std::uint32_t count = 0;
  std::uint32_t depth = 0;  // of the first block; 0: no parent
  std::uint64_t parent = 0;
};

struct Prompt {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};

// A corpus in memory, or mapped from a file.
struct CorpusView {
  Head head;
  std::span<const Event> events;
  std::span<const Prompt> prompts;
  std::span<const Block> blocks;
  std::span<const Block> of(const Event& event) const { return blocks.subspan(event.first, event.count); }
  std::span<const Block> of(const Prompt& prompt) const { return blocks.subspan(prompt.first, prompt.count); }
};

struct Corpus {
  std::uint32_t engines = 0;
  std::uint32_t block_tokens = 0;
  std::vector<Event> events;
  std::vector<Prompt> prompts;
  std::vector<Block> blocks;
};

// False when the file cannot be written or read, or is no corpus.
bool write_corpus(const Corpus& corpus, const std::string& path);
// Mapped for the rest of the process.
bool map_corpus(const std::string& path, CorpusView& out);

}  // namespace warmpath::bench
