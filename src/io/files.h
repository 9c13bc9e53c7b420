// Files: read whole under a limit, replace atomically, append under a limit.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace warmpath::io {

// kNotFound, kForbidden, kTooLarge (above bytes_max) or kInvalid (a folder), each with path and remedy.
Result<std::string> read_file(const std::string& path, std::size_t bytes_max);
bool file_exists(const std::string& path);
// Writes beside and renames: readers see the old or the new content, never half.
Result<void> replace_file(const std::string& path, std::string_view content);

// The same piece by piece, for what is large or for its owner alone (mode 0600). Nothing is at `path` that is not whole
// and on the disk: written to `path`.new, synced, renamed, the folder synced. Destroyed before commit() it leaves
// nothing. One process a path: of two the later one wins, and neither may be whole.
class FileReplacement {
 public:
  static Result<FileReplacement> begin(const std::string& path);
  FileReplacement(FileReplacement&& other) noexcept;
  FileReplacement& operator=(FileReplacement&&) = delete;
  ~FileReplacement();
  Result<void> append(std::string_view bytes);  // kInternal with the system's words: "No space left on device"
  Result<void> commit();

 private:
  FileReplacement(std::string path, std::string beside, int fd);
  std::string path_;
  std::string beside_;
  int fd_ = -1;
};

// A file from its first byte to its last in pieces of at most 1 MiB, until `use` says false. Failures as read_file's.
Result<void> read_file_in_pieces(const std::string& path, const std::function<bool(std::string_view)>& use);

}  // namespace warmpath::io
