#include "io/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

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
  struct stat facts{};
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

FileReplacement::FileReplacement(std::string path, std::string beside, int fd)
    : path_(std::move(path)), beside_(std::move(beside)), fd_(fd) {}

FileReplacement::FileReplacement(FileReplacement&& other) noexcept
    : path_(std::move(other.path_)), beside_(std::move(other.beside_)), fd_(std::exchange(other.fd_, -1)) {}

FileReplacement::~FileReplacement() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(beside_.c_str());
}

Result<FileReplacement> FileReplacement::begin(const std::string& path) {
  // Always the same name: what a process that was killed has left is overwritten, not added to.
  std::string beside = path + ".new";
  const int fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return file_error(beside, errno);
  FileReplacement made(path, std::move(beside), fd);
  if (::fchmod(fd, 0600) != 0) return file_error(path, errno);
  return made;
}

Result<void> FileReplacement::append(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd_, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return file_error(path_, errno);
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

Result<void> FileReplacement::commit() {
  if (::fsync(fd_) != 0) return file_error(path_, errno);
  if (::rename(beside_.c_str(), path_.c_str()) != 0) return file_error(path_, errno);
  ::close(std::exchange(fd_, -1));
  // Without it a power cut may bring the old file back: whole as well, so what the system says of it does not matter.
  const auto slash = path_.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  const Descriptor above(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (above.fd >= 0) (void)::fsync(above.fd);
  return {};
}

Result<void> read_file_in_pieces(const std::string& path, const std::function<bool(std::string_view)>& use) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) return file_error(path, errno);
  struct stat facts{};
  if (::fstat(file.fd, &facts) != 0) return file_error(path, errno);
  if (S_ISDIR(facts.st_mode)) return file_error(path, EISDIR);
  std::string buffer(1u << 20, '\0');
  for (;;) {
    const ssize_t got = ::read(file.fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return file_error(path, errno);
    if (got == 0 || !use(std::string_view(buffer).substr(0, static_cast<std::size_t>(got)))) return {};
  }
}

}  // namespace warmpath::io
