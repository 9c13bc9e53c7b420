// Heads and bodies from either side. Whatever the bytes: the same verdict whole and in pieces, no byte taken twice, and
// what is written anew parses to the same request with the same framing.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "http/parser.h"

namespace {

using namespace warmpath;
using namespace warmpath::http;

struct Body {
  std::string content;
  std::string left;
  bool refused = false;
  bool done = false;
  friend bool operator==(const Body&, const Body&) = default;
};

Body read_body(Framing framing, std::string_view bytes, std::uint64_t pieces) {
  BodyReader reader(framing);
  Body body;
  while (!bytes.empty() && !reader.done()) {
    const std::size_t size = pieces == 0 ? bytes.size() : 1 + (pieces & 7);
    pieces = (pieces >> 3) | (pieces << 61);
    std::string_view part = bytes.substr(0, size);
    const std::size_t given = part.size();
    while (!part.empty() && !reader.done()) {
      const std::size_t before = part.size();
      const auto piece = reader.feed(part);
      if (!piece.ok()) {
        body.content.clear();  // how much came before the refusal depends on the pieces
        body.refused = true;
        return body;
      }
      WP_CHECK(part.size() < before);
      body.content += *piece;
    }
    bytes.remove_prefix(given - part.size());
  }
  body.done = reader.done();
  body.left = bytes;
  return body;
}

template <class Head, class Parse>
void try_head(std::string_view bytes, std::uint64_t pieces, Parse parse) {
  Limits limits;
  limits.head_bytes_max = 4'096;
  limits.headers_max = 20;
  Head head;
  Framing framing;
  const auto whole = parse(bytes, limits, head, framing);
  // In pieces: more is wanted until the verdict falls, and then it is the same verdict.
  for (std::size_t size = 0; size < bytes.size(); size += 1 + (pieces & 31)) {
    pieces = (pieces >> 5) | (pieces << 59);
    Head part_head;
    Framing part_framing;
    const auto part = parse(bytes.substr(0, size), limits, part_head, part_framing);
    if (!part.ok()) {
      WP_CHECK(!whole.ok());
    } else if (*part > 0) {
      WP_CHECK(whole.ok() && *whole == *part);
    } else {
      WP_CHECK(!whole.ok() || *whole == 0 || *whole > size);
    }
  }
  if (!whole.ok() || *whole == 0) return;
  WP_CHECK(*whole <= bytes.size() && *whole <= limits.head_bytes_max + 2);
  const std::string_view rest = bytes.substr(*whole);
  WP_CHECK(read_body(framing, rest, 0) == read_body(framing, rest, pieces | 1));

  if constexpr (std::is_same_v<Head, RequestHead>) {
    if (head.headers.find("host") == nullptr) head.headers.add("Host", "a");  // HTTP/1.0 needs none, what we write does
    const std::string text = write_request_head(head, framing);
    RequestHead again;
    Framing framing_again;
    const auto size = parse_request_head(text, {}, again, framing_again);
    WP_CHECK(size.ok() && *size == text.size());
    WP_CHECK(again.method == head.method && again.target == head.target);
    WP_CHECK(framing_again.kind == framing.kind && framing_again.length == framing.length);
  } else if (head.status >= 200) {
    const std::string text = write_response_head(head, framing);
    ResponseHead again;
    Framing framing_again;
    const auto size = parse_response_head(text, {}, again, framing_again);
    WP_CHECK(size.ok() && *size == text.size() && again.status == head.status);
    WP_CHECK(framing_again.kind == framing.kind);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 9) return 0;
  std::uint64_t pieces = 0;
  for (int i = 0; i < 8; ++i) pieces = pieces << 8 | data[1 + i];
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 9, size - 9);
  switch (data[0] % 3) {
    case 0: try_head<RequestHead>(bytes, pieces, parse_request_head); break;
    case 1: try_head<ResponseHead>(bytes, pieces, parse_response_head); break;
    default: {
      const Framing chunked{Framing::Kind::kChunked, 0};
      WP_CHECK(read_body(chunked, bytes, 0) == read_body(chunked, bytes, pieces | 1));
    }
  }
  return 0;
}
