#include "io/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "io/reactor.h"

namespace warmpath::io {
namespace {

Error file_error(const std::string& path, int code) {
  switch (code) {
    case ENOENT:
    case ENOTDIR: return {ErrorKind::kNotFound, path + ": no such file"};
    case EACCES:
    case EPERM: return {ErrorKind::kForbidden, path + ": not permitted; check the file's owner and mode"};
    case EISDIR: return {ErrorKind::kInvalid, path + ": is a folder, not a file"};
    default: return {ErrorKind::kInternal, system_message(path, code)};
  }
}

// Closes on every way out.
struct Descriptor {
  explicit Descriptor(int number) : fd(number) {}
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int fd;
};

}  // namespace

Result<std::string> read_file(const std::string& path, std::size_t bytes_max) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) return file_error(path, errno);
  struct stat facts {};
  if (::fstat(file.fd, &facts) != 0) return file_error(path, errno);
  if (S_ISDIR(facts.st_mode)) return file_error(path, EISDIR);
  const Error too_large{ErrorKind::kTooLarge, path + ": larger than " + std::to_string(bytes_max) + " bytes"};
  if (S_ISREG(facts.st_mode) && static_cast<std::size_t>(facts.st_size) > bytes_max) return too_large;
  std::string content;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = ::read(file.fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return file_error(path, errno);
    if (got == 0) return content;
    if (content.size() + static_cast<std::size_t>(got) > bytes_max) return too_large;
    content.append(buffer, static_cast<std::size_t>(got));
  }
}

bool file_exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

Result<void> replace_file(const std::string& path, std::string_view content) {
  std::string beside = path + ".XXXXXX";
  Descriptor file(::mkostemp(beside.data(), O_CLOEXEC));
  if (file.fd < 0) return file_error(beside, errno);
  const auto give_up = [&](int code) {
    ::unlink(beside.c_str());
    return file_error(path, code);
  };
  while (!content.empty()) {
    const ssize_t put = ::write(file.fd, content.data(), content.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return give_up(errno);
    content.remove_prefix(static_cast<std::size_t>(put));
  }
  if (::fchmod(file.fd, 0644) != 0 || ::fsync(file.fd) != 0) return give_up(errno);
  if (::rename(beside.c_str(), path.c_str()) != 0) return give_up(errno);
  return {};
}

}  // namespace warmpath::io
