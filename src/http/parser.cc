#include "http/parser.h"

#include <algorithm>
#include <array>

namespace warmpath::http {
namespace {

constexpr std::uint32_t kChunkLineBytesMax = 256;        // size and extensions
constexpr std::uint32_t kChunkOverheadBytesMax = 16u << 10;  // all extensions and trailers of one body
constexpr int kChunkDigitsMax = 15;

constexpr std::array<bool, 256> make_token_table() {
  std::array<bool, 256> table{};
  for (int c = '0'; c <= '9'; ++c) table[static_cast<std::size_t>(c)] = true;
  for (int c = 'a'; c <= 'z'; ++c) table[static_cast<std::size_t>(c)] = true;
  for (int c = 'A'; c <= 'Z'; ++c) table[static_cast<std::size_t>(c)] = true;
  for (const char c : {'!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~'}) {
    table[static_cast<unsigned char>(c)] = true;
  }
  return table;
}
constexpr std::array<bool, 256> kToken = make_token_table();

// Field values: visible characters, spaces, tabs and anything above ASCII.
constexpr std::array<bool, 256> make_value_table() {
  std::array<bool, 256> table{};
  for (std::size_t c = 0x20; c < 256; ++c) table[c] = c != 0x7f;
  table['\t'] = true;
  return table;
}
constexpr std::array<bool, 256> kValue = make_value_table();

// Without an early exit the loop is a few instructions a byte; refusals are rare.
bool all_in(const std::array<bool, 256>& table, std::string_view text) {
  bool good = true;
  for (const char c : text) good &= table[static_cast<unsigned char>(c)];
  return good;
}
bool is_token(std::string_view text) { return !text.empty() && all_in(kToken, text); }
bool is_field_value(std::string_view text) { return all_in(kValue, text); }

Error malformed(std::string what) { return {ErrorKind::kInvalid, "malformed HTTP head: " + std::move(what)}; }

// A bare LF is refused when it comes, not when the head's timer ends.
bool has_bare_lf(std::string_view bytes) {
  for (auto at = bytes.find('\n'); at != std::string_view::npos; at = bytes.find('\n', at + 1)) {
    if (at == 0 || bytes[at - 1] != '\r') return true;
  }
  return false;
}

// Framing headers in disguise: peers that map '_' to '-' (CGI style) would see a second framing.
bool is_framing_look_alike(std::string_view name) {
  if (name.find('_') == std::string_view::npos) return false;
  std::string plain(name);
  std::replace(plain.begin(), plain.end(), '_', '-');
  return equals_ignoring_case(plain, "content-length") || equals_ignoring_case(plain, "transfer-encoding");
}

// host[:port] by its characters; empty is allowed (RFC 9112 3.2).
constexpr std::array<bool, 256> make_host_table() {
  std::array<bool, 256> table{};
  for (std::size_t c = 0; c < 128; ++c) {
    table[c] = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  }
  for (const char c : std::string_view("-._~:[]%!$&'()*+;=")) table[static_cast<unsigned char>(c)] = true;
  return table;
}
constexpr std::array<bool, 256> kHost = make_host_table();
bool is_host(std::string_view text) { return all_in(kHost, text); }

// Finds the head's end; 0 when it is not there yet.
Result<std::size_t> head_size(std::string_view bytes, const Limits& limits) {
  const auto end = bytes.find("\r\n\r\n");
  const std::size_t size = end == std::string_view::npos ? bytes.size() : end + 4;
  if (size > limits.head_bytes_max) {
    return Error{ErrorKind::kHeadTooLarge,
                 "the head is longer than " + std::to_string(limits.head_bytes_max) + " bytes"};
  }
  if (end == std::string_view::npos && has_bare_lf(bytes)) return malformed("a line that ends in a bare LF");
  return end == std::string_view::npos ? 0 : size;
}

// What framing and routing need of the fields, noted in the one pass over them.
struct Noted {
  std::optional<std::uint64_t> length;
  std::string_view coding;
  std::string_view host;
  int codings = 0;
  int hosts = 0;
};

Result<void> note_content_length(std::string_view value, Noted& noted) {
  const bool digits = !value.empty() && value.size() <= 18 &&
                      std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; });
  const auto length = digits ? parse_u64(value) : std::nullopt;
  if (!length) return malformed("Content-Length is not a number");
  if (noted.length && *noted.length != *length) return malformed("two different Content-Length headers");
  noted.length = length;
  return {};
}

// By its length first: few names are compared at all.
Result<void> note(std::string_view name, std::string_view value, Noted& noted) {
  switch (name.size()) {
    case 4:
      if (!equals_ignoring_case(name, "host")) return {};
      ++noted.hosts;
      noted.host = value;
      return {};
    case 14:
      if (equals_ignoring_case(name, "content-length")) return note_content_length(value, noted);
      break;
    case 17:
      if (equals_ignoring_case(name, "transfer-encoding")) {
        ++noted.codings;
        noted.coding = value;
        return {};
      }
      break;
    default: return {};
  }
  if (is_framing_look_alike(name)) return malformed("the header " + std::string(name) + "; it is written with '-'");
  return {};
}

constexpr std::size_t kHeadersUsual = 20;

// `block` is whole lines, each with its CRLF.
Result<void> parse_fields(std::string_view block, const Limits& limits, Headers& headers, Noted& noted) {
  headers.reserve(std::min(kHeadersUsual, limits.headers_max));
  std::size_t count = 0;
  while (!block.empty()) {
    const std::size_t end = block.find('\n');  // there is one, and a CR before it, or a control character is found below
    std::string_view line = block.substr(0, end);
    block.remove_prefix(end == std::string_view::npos ? block.size() : end + 1);
    if (!line.ends_with('\r')) return malformed("a line that ends in a bare LF");
    line.remove_suffix(1);
    if (++count > limits.headers_max) {
      return Error{ErrorKind::kHeadTooLarge, "more than " + std::to_string(limits.headers_max) + " headers"};
    }
    if (line.starts_with(' ') || line.starts_with('\t')) return malformed("a folded header line");
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return malformed("a header line without a colon");
    const std::string_view name = line.substr(0, colon);
    if (!is_token(name)) return malformed("a header name with characters that are not allowed");
    std::string_view value = line.substr(colon + 1);
    while (value.starts_with(' ') || value.starts_with('\t')) value.remove_prefix(1);
    while (value.ends_with(' ') || value.ends_with('\t')) value.remove_suffix(1);
    if (!is_field_value(value)) return malformed("a control character in the value of " + std::string(name));
    if (auto noting = note(name, value, noted); !noting.ok()) return noting;
    headers.add(std::string(name), std::string(value));
  }
  return {};
}

// The framing that headers ask for; nullopt: they ask for none.
Result<std::optional<Framing>> framing_of(const Noted& noted, int minor) {
  if (noted.codings > 0) {
    if (minor == 0) return malformed("Transfer-Encoding in HTTP/1.0");
    if (noted.length) return malformed("both Content-Length and Transfer-Encoding");
    if (noted.codings > 1) return malformed("more than one Transfer-Encoding header");
    if (equals_ignoring_case(noted.coding, "chunked")) return std::optional(Framing{Framing::Kind::kChunked, 0});
    if (is_token(noted.coding)) {
      return Error{ErrorKind::kUnsupported,
                   "transfer coding '" + std::string(noted.coding) + "' is not supported; use chunked"};
    }
    return malformed("Transfer-Encoding is not exactly chunked");
  }
  if (noted.length) return std::optional(Framing{Framing::Kind::kLength, *noted.length});
  return std::optional<Framing>{};
}

// "HTTP/1.x": the minor version.
Result<int> parse_version(std::string_view text) {
  if (text == "HTTP/1.1") return 1;
  if (text == "HTTP/1.0") return 0;
  const bool shaped = text.size() == 8 && text.starts_with("HTTP/") && text[6] == '.';
  if (shaped) return Error{ErrorKind::kUnsupported, "HTTP version is not supported; use HTTP/1.1"};
  return malformed("no HTTP version in the first line");
}

bool first_line_is_clean(std::string_view line) {
  return std::all_of(line.begin(), line.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= 0x20 && byte != 0x7f;
  });
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// A size line that stands whole and plain at the front: the usual one. False, and nothing taken, otherwise.
bool take_plain_size_line(std::string_view& bytes, std::uint64_t& size) {
  std::uint64_t value = 0;
  std::size_t digits = 0;
  for (; digits < bytes.size() && digits < kChunkDigitsMax; ++digits) {
    const int digit = hex_digit(bytes[digits]);
    if (digit < 0) break;
    value = value * 16 + static_cast<std::uint64_t>(digit);
  }
  if (digits == 0 || !bytes.substr(digits).starts_with("\r\n")) return false;
  bytes.remove_prefix(digits + 2);
  size = value;
  return true;
}

void append_headers(std::string& out, const Headers& headers, const Framing& framing) {
  for (const Header& header : headers.all()) {
    if (equals_ignoring_case(header.name, "content-length") || equals_ignoring_case(header.name, "transfer-encoding")) {
      continue;
    }
    // Heads come from a parser or from our own words; neither may start a second line.
    WP_CHECK(is_token(header.name) && is_field_value(header.value));
    out.append(header.name).append(": ").append(header.value).append("\r\n");
  }
  if (framing.kind == Framing::Kind::kLength) {
    out.append("Content-Length: ").append(std::to_string(framing.length)).append("\r\n");
  } else if (framing.kind == Framing::Kind::kChunked) {
    out.append("Transfer-Encoding: chunked\r\n");
  }
  out.append("\r\n");
}

}  // namespace

Result<std::size_t> parse_request_head(std::string_view bytes, const Limits& limits, RequestHead& head,
                                       Framing& framing) {
  // RFC 9112 2.2: one empty line before a request is skipped (old clients send it after a body).
  const std::size_t skipped = bytes.starts_with("\r\n") ? 2 : 0;
  bytes.remove_prefix(skipped);
  auto size = head_size(bytes, limits);
  if (!size.ok() || *size == 0) return size;
  const std::string_view block = bytes.substr(0, *size - 2);  // with the last field's CRLF
  const auto line_end = block.find("\r\n");
  const std::string_view line = block.substr(0, line_end);
  if (!first_line_is_clean(line)) return malformed("a control character in the request line");
  const auto first = line.find(' ');
  const auto last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return malformed("the request line needs a method, a path and a version");
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  if (!is_token(method)) return malformed("the method has characters that are not allowed");
  auto minor = parse_version(line.substr(last + 1));
  if (!minor.ok()) return minor.error();
  if (target.empty() || target.find(' ') != std::string_view::npos ||
      (target[0] != '/' && !(target == "*" && method == "OPTIONS"))) {
    return malformed("the request target has to be a path");
  }
  head = RequestHead{std::string(method), std::string(target), *minor, {}};
  Noted noted;
  auto fields = parse_fields(block.substr(line_end + 2), limits, head.headers, noted);
  if (!fields.ok()) return fields.error();
  if (noted.hosts > 1) return malformed("more than one Host header");
  if (noted.hosts == 0 && *minor == 1) return malformed("no Host header");
  if (!is_host(noted.host)) return malformed("Host is not host:port");
  auto asked = framing_of(noted, *minor);
  if (!asked.ok()) return asked.error();
  framing = asked->value_or(Framing{});
  return skipped + *size;
}

Result<std::size_t> parse_response_head(std::string_view bytes, const Limits& limits, ResponseHead& head,
                                        Framing& framing) {
  auto size = head_size(bytes, limits);
  if (!size.ok() || *size == 0) return size;
  const std::string_view block = bytes.substr(0, *size - 2);
  const auto line_end = block.find("\r\n");
  const std::string_view line = block.substr(0, line_end);
  if (!is_field_value(line)) return malformed("a control character in the status line");
  auto minor = parse_version(line.substr(0, line.find(' ')));
  if (!minor.ok()) return minor.error();
  const std::string_view rest = line.size() > 9 ? line.substr(9) : std::string_view{};
  const auto status = rest.size() >= 3 && (rest.size() == 3 || rest[3] == ' ') ? parse_u64(rest.substr(0, 3)) : std::nullopt;
  if (!status || *status < 100 || *status > 599) return malformed("the status is not a number from 100 to 599");
  head = ResponseHead{static_cast<int>(*status), std::string(rest.size() > 4 ? rest.substr(4) : std::string_view{}), *minor, {}};
  Noted noted;
  auto fields = parse_fields(block.substr(line_end + 2), limits, head.headers, noted);
  if (!fields.ok()) return fields.error();
  auto asked = framing_of(noted, *minor);
  if (!asked.ok()) return asked.error();
  const bool bodiless = head.status < 200 || head.status == 204 || head.status == 304;
  framing = bodiless ? Framing{} : asked->value_or(Framing{Framing::Kind::kUntilClose, 0});
  return *size;
}

BodyReader::BodyReader(Framing framing) : framing_(framing), left_(framing.length) {
  if (framing.kind == Framing::Kind::kChunked) {
    state_ = State::kSize;
    left_ = 0;
  }
  done_ = framing.kind == Framing::Kind::kNone || (framing.kind == Framing::Kind::kLength && left_ == 0);
}

Result<void> BodyReader::end_of_input() {
  if (framing_.kind == Framing::Kind::kUntilClose) done_ = true;
  if (done_) return {};
  return Error{ErrorKind::kUpstream, "the connection ended in the middle of a body"};
}

Result<std::string_view> BodyReader::feed(std::string_view& bytes) {
  if (done_) return std::string_view{};
  if (framing_.kind != Framing::Kind::kChunked) {
    std::size_t take = bytes.size();
    if (framing_.kind == Framing::Kind::kLength) {
      take = static_cast<std::size_t>(std::min<std::uint64_t>(take, left_));
      left_ -= take;
      done_ = left_ == 0;
    }
    const std::string_view piece = bytes.substr(0, take);
    bytes.remove_prefix(take);
    return piece;
  }
  const auto bad = [](const char* what) {
    return Error{ErrorKind::kInvalid, std::string("malformed chunked body: ") + what};
  };
  while (!bytes.empty()) {
    if (state_ == State::kData) {
      const auto take = static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), left_));
      const std::string_view piece = bytes.substr(0, take);
      bytes.remove_prefix(take);
      left_ -= take;
      if (left_ == 0) state_ = State::kDataCr;
      return piece;
    }
    if (state_ == State::kSize && line_ == 0 && take_plain_size_line(bytes, left_)) {
      state_ = left_ == 0 ? State::kTrailer : State::kData;
      continue;
    }
    if (state_ == State::kDataCr && bytes.starts_with("\r\n")) {
      bytes.remove_prefix(2);
      state_ = State::kSize;
      continue;
    }
    const char c = bytes.front();
    bytes.remove_prefix(1);
    switch (state_) {
      case State::kSize: {
        const int digit = hex_digit(c);
        if (digit >= 0) {
          if (++line_ > kChunkDigitsMax) return bad("the chunk size is too large");
          left_ = left_ * 16 + static_cast<std::uint64_t>(digit);
          size_seen_ = true;
          break;
        }
        if (!size_seen_) return bad("no chunk size");
        if (c == '\r') {
          state_ = State::kSizeLf;
        } else if (c == ';') {
          state_ = State::kExtension;
        } else {
          return bad("the chunk size is not hexadecimal");
        }
        break;
      }
      case State::kExtension:
        if (++line_ > kChunkLineBytesMax || ++overhead_ > kChunkOverheadBytesMax) return bad("chunk extensions are too long");
        if (c == '\r') {
          state_ = State::kSizeLf;
        } else if (!is_field_value({&c, 1})) {
          return bad("a control character in a chunk extension");
        }
        break;
      case State::kSizeLf:
        if (c != '\n') return bad("a bare CR");
        line_ = 0;
        size_seen_ = false;
        state_ = left_ == 0 ? State::kTrailer : State::kData;
        break;
      case State::kDataCr:
        if (c != '\r') return bad("a chunk is longer than its size");
        state_ = State::kDataLf;
        break;
      case State::kDataLf:
        if (c != '\n') return bad("a bare CR");
        state_ = State::kSize;
        break;
      case State::kTrailer:
        if (c == '\r') {
          state_ = State::kTrailerLf;
          break;
        }
        if (++overhead_ > kChunkOverheadBytesMax) return bad("trailers are too long");
        if (!is_field_value({&c, 1})) return bad("a control character in a trailer");
        ++line_;
        break;
      case State::kTrailerLf:
        if (c != '\n') return bad("a bare CR");
        if (line_ == 0) {
          done_ = true;
          state_ = State::kDone;
          return std::string_view{};
        }
        line_ = 0;
        state_ = State::kTrailer;
        break;
      case State::kData:
      case State::kDone: break;
    }
  }
  return std::string_view{};
}

std::string write_request_head(const RequestHead& head, const Framing& framing) {
  std::string out;
  out.reserve(512);
  out.append(head.method).append(" ").append(head.target).append(" HTTP/1.1\r\n");
  append_headers(out, head.headers, framing);
  return out;
}

std::string write_response_head(const ResponseHead& head, const Framing& framing) {
  std::string out;
  out.reserve(512);
  const std::string_view reason = head.reason.empty() ? reason_phrase(head.status) : std::string_view(head.reason);
  out.append("HTTP/1.1 ").append(std::to_string(head.status)).append(" ").append(reason).append("\r\n");
  append_headers(out, head.headers, framing);
  return out;
}

}  // namespace warmpath::http
