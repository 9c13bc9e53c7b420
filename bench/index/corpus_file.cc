#include "corpus_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

namespace warmpath::bench {

bool write_corpus(const Corpus& corpus, const std::string& path) {
  const Head head{.events = corpus.events.size(),
                  .prompts = corpus.prompts.size(),
                  .blocks = corpus.blocks.size(),
                  .engines = corpus.engines,
                  .block_tokens = corpus.block_tokens};
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return false;
  const auto put = [&](const void* from, std::size_t size, std::size_t count) {
    return count == 0 || std::fwrite(from, size, count, file) == count;
  };
  const bool written = put(&head, sizeof head, 1) && put(corpus.events.data(), sizeof(Event), corpus.events.size()) &&
                       put(corpus.prompts.data(), sizeof(Prompt), corpus.prompts.size()) &&
                       put(corpus.blocks.data(), sizeof(Block), corpus.blocks.size());
  return std::fclose(file) == 0 && written;
}

bool map_corpus(const std::string& path, CorpusView& out) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info{};
  if (file < 0) return false;
  const bool sized = ::fstat(file, &info) == 0 && info.st_size >= static_cast<off_t>(sizeof(Head));
  void* const map =
      sized ? ::mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0)
            : MAP_FAILED;
  ::close(file);
  if (map == MAP_FAILED) return false;
  const auto* at = static_cast<const char*>(map);
  out.head = *reinterpret_cast<const Head*>(at);
  const std::uint64_t size = sizeof(Head) + out.head.events * sizeof(Event) + out.head.prompts * sizeof(Prompt) +
                             out.head.blocks * sizeof(Block);
  if (out.head.magic != kMagic || size != static_cast<std::uint64_t>(info.st_size)) return false;
  at += sizeof(Head);
  out.events = {reinterpret_cast<const Event*>(at), out.head.events};
  at += out.events.size_bytes();
  out.prompts = {reinterpret_cast<const Prompt*>(at), out.head.prompts};
  at += out.prompts.size_bytes();
  out.blocks = {reinterpret_cast<const Block*>(at), out.head.blocks};
  return true;
}

}  // namespace warmpath::bench
