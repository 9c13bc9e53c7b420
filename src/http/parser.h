// Incremental HTTP/1.1 parsing: strict where leniency is smuggling (RFC 9112), bounded everywhere.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/base.h"
#include "http/message.h"

namespace warmpath::http {

// How a body ends.
struct Framing {
  enum class Kind : std::uint8_t { kNone, kLength, kChunked, kUntilClose } kind = Kind::kNone;
  std::uint64_t length = 0;
};

// Finds a whole head in `bytes`: number of bytes it takes, 0 when more are needed.
// kInvalid (400), kHeadTooLarge (431), kUnsupported (501: unknown transfer coding, or not HTTP/1.x).
// Refused: bare CR or LF in a head, obs-fold, NUL, space before colon, content-length with anything but digits or
// twice with different values, content-length with transfer-encoding, transfer-encoding in 1.0, chunked not last.
Result<std::size_t> parse_request_head(std::string_view bytes, const Limits& limits, RequestHead& head, Framing& framing);
// 1xx, 204 and 304 have no body; the caller knows of HEAD.
Result<std::size_t> parse_response_head(std::string_view bytes, const Limits& limits, ResponseHead& head,
                                        Framing& framing);

// Decodes one body, whatever its framing. feed() consumes from the front of `bytes` and returns the next piece of
// content (empty when none is ready); done() once the body is complete: what is left in `bytes` is not its own.
class BodyReader {
 public:
  explicit BodyReader(Framing framing);
  Result<std::string_view> feed(std::string_view& bytes);
  bool done() const { return done_; }
  // The connection ended: fine for kUntilClose, an error (kUpstream) otherwise.
  Result<void> end_of_input();

 private:
  enum class State : std::uint8_t { kData, kSize, kExtension, kSizeLf, kDataCr, kDataLf, kTrailer, kTrailerLf, kDone };
  Framing framing_;
  State state_ = State::kData;
  std::uint64_t left_ = 0;
  std::uint32_t overhead_ = 0;  // size-line, extension and trailer bytes: bounded
  std::uint32_t line_ = 0;
  bool size_seen_ = false;
  bool done_ = false;
};

// Serialises a head, adding exactly the framing that is asked.
std::string write_request_head(const RequestHead& head, const Framing& framing);
std::string write_response_head(const ResponseHead& head, const Framing& framing);

}  // namespace warmpath::http
