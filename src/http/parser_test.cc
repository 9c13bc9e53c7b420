#include "http/parser.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace warmpath::http {
namespace {

using std::string;
using std::string_view;

// What a case has to come to: the body that follows, or a refusal.
enum class Want { kNone, kLength, kChunked, kUntilClose, k400, k431, k501, kMore };

struct Case {
  const char* what;
  string bytes;
  Want want;
};

string want_name(Want want) {
  constexpr const char* kNames[] = {"none", "length", "chunked", "until close", "400", "431", "501", "more"};
  return kNames[static_cast<std::size_t>(want)];
}

Want outcome(const Result<std::size_t>& size, const Framing& framing) {
  if (!size.ok()) {
    switch (size.error().kind) {
      case ErrorKind::kHeadTooLarge: return Want::k431;
      case ErrorKind::kUnsupported: return Want::k501;
      default: return Want::k400;
    }
  }
  if (*size == 0) return Want::kMore;
  return static_cast<Want>(framing.kind);
}

string host(string_view more) { return "POST /v1 HTTP/1.1\r\nHost: a\r\n" + string(more) + "\r\n"; }
string line(string_view first) { return string(first) + "\r\nHost: a\r\n\r\n"; }
string with_nul(string text, char at = '@') {
  for (char& c : text) {
    if (c == at) c = '\0';
  }
  return text;
}
string many_headers(int count) {
  string out = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (int i = 1; i < count; ++i) out += "x-" + std::to_string(i) + ": 1\r\n";
  return out + "\r\n";
}

std::vector<Case> request_cases() {
  return {
      // The first line.
      {"plain", line("GET / HTTP/1.1"), Want::kNone},
      {"query", line("GET /a?b=c HTTP/1.1"), Want::kNone},
      {"own method", line("M-SEARCH / HTTP/1.1"), Want::kNone},
      {"lower-case method is a method of its own", line("get / HTTP/1.1"), Want::kNone},
      {"options star", line("OPTIONS * HTTP/1.1"), Want::kNone},
      {"one empty line before", "\r\n" + line("GET / HTTP/1.1"), Want::kNone},
      {"two empty lines before", "\r\n\r\n" + line("GET / HTTP/1.1"), Want::k400},
      {"1.0 without host", "GET / HTTP/1.0\r\n\r\n", Want::kNone},
      {"no version", line("GET /"), Want::k400},
      {"0.9", "GET /\r\n\r\n", Want::k400},
      {"HTTP/2.0", line("GET / HTTP/2.0"), Want::k501},
      {"h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Want::k501},
      {"HTTP/1.2", line("GET / HTTP/1.2"), Want::k501},
      {"HTTP/1.10", line("GET / HTTP/1.10"), Want::k400},
      {"HTTP/1,1", line("GET / HTTP/1,1"), Want::k400},
      {"http/1.1", line("GET / http/1.1"), Want::k400},
      {"HTTP/11", line("GET / HTTP/11"), Want::k400},
      {"space in version", line("GET / HTTP/1. 1"), Want::k400},
      {"two spaces after method", line("GET  / HTTP/1.1"), Want::k400},
      {"two spaces before version", line("GET /  HTTP/1.1"), Want::k400},
      {"tab after method", line("GET\t/ HTTP/1.1"), Want::k400},
      {"leading space", line(" GET / HTTP/1.1"), Want::k400},
      {"trailing space", line("GET / HTTP/1.1 "), Want::k400},
      {"space in target", line("GET /a b HTTP/1.1"), Want::k400},
      {"tab in target", line("GET /a\tb HTTP/1.1"), Want::k400},
      {"NUL in target", with_nul(line("GET /a@b HTTP/1.1")), Want::k400},
      {"DEL in target", line("GET /a\x7f HTTP/1.1"), Want::k400},
      {"bare CR in target", line("GET /a\rb HTTP/1.1"), Want::k400},
      {"bare CR as line end", "GET / HTTP/1.1\rHost: a\r\n\r\n", Want::k400},
      {"relative target", line("GET a HTTP/1.1"), Want::k400},
      {"star for GET", line("GET * HTTP/1.1"), Want::k400},
      {"absolute form", line("GET http://a/ HTTP/1.1"), Want::k400},
      {"absolute form with another host", line("GET http://b/ HTTP/1.1"), Want::k400},
      {"authority form", line("CONNECT a:443 HTTP/1.1"), Want::k400},
      {"method with colon", line("GE:T / HTTP/1.1"), Want::k400},
      {"method with high byte", line("G\xc3\x89T / HTTP/1.1"), Want::k400},
      {"method with NUL", with_nul(line("GE@T / HTTP/1.1")), Want::k400},
      {"quoted method", line("\"GET\" / HTTP/1.1"), Want::k400},
      {"only spaces", line("   "), Want::k400},
      {"header first", "Host: a\r\n\r\n", Want::k400},
      {"TLS hello", string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) + "\r\n\r\n", Want::k400},
      {"a response", "HTTP/1.1 200 OK\r\nHost: a\r\n\r\n", Want::k400},
      // Line ends.
      {"bare LF everywhere", "GET / HTTP/1.1\nHost: a\n\n", Want::k400},
      {"bare LF after first line", "GET / HTTP/1.1\nHost: a\r\n\r\n", Want::k400},
      {"bare LF between headers", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", Want::k400},
      {"LF LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", Want::k400},
      {"LF CR LF at the end", "GET / HTTP/1.1\r\nHost: a\n\r\n", Want::k400},
      {"CR CR LF", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Want::k400},
      {"bare CR in a value", host("X: a\rb\r\n"), Want::k400},
      {"bare CR hides a header", host("X: a\rTransfer-Encoding: chunked\r\n"), Want::k400},
      {"NUL in a value", with_nul(host("X: a@b\r\n")), Want::k400},
      {"NUL in a name", with_nul(host("X@Y: b\r\n")), Want::k400},
      {"DEL in a value", host("X: a\x7f\r\n"), Want::k400},
      {"bell in a value", host("X: a\a\r\n"), Want::k400},
      {"vertical tab in a value", host("X: a\vb\r\n"), Want::k400},
      {"tab in a value", host("X: a\tb\r\n"), Want::kNone},
      {"UTF-8 in a value", host("X: \xc3\xa9\r\n"), Want::kNone},
      {"obs-fold with space", host("X: a\r\n b\r\n"), Want::k400},
      {"obs-fold with tab", host("X: a\r\n\tb\r\n"), Want::k400},
      {"obs-fold on content-length", host("Content-Length:\r\n 5\r\n"), Want::k400},
      {"white space before the first header", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", Want::k400},
      {"line of spaces", host("  \r\n"), Want::k400},
      // Header names.
      {"space before colon", host("X : a\r\n"), Want::k400},
      {"tab before colon", host("X\t: a\r\n"), Want::k400},
      {"space before colon of content-length", host("Content-Length : 5\r\n"), Want::k400},
      {"space before colon of transfer-encoding", host("Transfer-Encoding : chunked\r\n"), Want::k400},
      {"space inside a name", host("X Y: a\r\n"), Want::k400},
      {"no colon", host("X\r\n"), Want::k400},
      {"empty name", host(": a\r\n"), Want::k400},
      {"high byte in a name", host("X\xff: a\r\n"), Want::k400},
      {"quotes in a name", host("\"X\": a\r\n"), Want::k400},
      {"brackets in a name", host("X[1]: a\r\n"), Want::k400},
      {"slash in a name", host("X/Y: a\r\n"), Want::k400},
      {"empty value", host("X:\r\n"), Want::kNone},
      {"value of spaces", host("X:   \r\n"), Want::kNone},
      {"colon in a value", host("X: a:b:c\r\n"), Want::kNone},
      {"underscore name", host("x_y: a\r\n"), Want::kNone},
      {"content_length", host("Content_Length: 5\r\n"), Want::k400},
      {"transfer_encoding", host("transfer_encoding: chunked\r\n"), Want::k400},
      {"bad name after content-length", host("Content-Length: 3\r\nContent-\x01Length: 5\r\n"), Want::k400},
      // Host.
      {"no host", "GET / HTTP/1.1\r\n\r\n", Want::k400},
      {"two hosts", host("Host: b\r\n"), Want::k400},
      {"same host twice", host("Host: a\r\n"), Want::k400},
      {"two hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Want::k400},
      {"host with port", "GET / HTTP/1.1\r\nHost: a:80\r\n\r\n", Want::kNone},
      {"IPv6 host", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", Want::kNone},
      {"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", Want::kNone},
      {"host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Want::k400},
      {"host with space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Want::k400},
      {"host with path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Want::k400},
      {"host with user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Want::k400},
      {"host with high byte", "GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n", Want::k400},
      // Content-Length.
      {"length", host("Content-Length: 5\r\n"), Want::kLength},
      {"length 0", host("Content-Length: 0\r\n"), Want::kLength},
      {"name in any case", host("cOnTeNt-LeNgTh: 5\r\n"), Want::kLength},
      {"spaces around", host("Content-Length: \t 5 \t\r\n"), Want::kLength},
      {"leading zeros", host("Content-Length: 005\r\n"), Want::kLength},
      {"the same length twice", host("Content-Length: 5\r\nContent-Length: 5\r\n"), Want::kLength},
      {"two lengths", host("Content-Length: 5\r\nContent-Length: 6\r\n"), Want::k400},
      {"two lengths, second bad", host("Content-Length: 5\r\nContent-Length: x\r\n"), Want::k400},
      {"list of lengths", host("Content-Length: 5, 5\r\n"), Want::k400},
      {"plus", host("Content-Length: +5\r\n"), Want::k400},
      {"minus", host("Content-Length: -5\r\n"), Want::k400},
      {"hex", host("Content-Length: 0x5\r\n"), Want::k400},
      {"underscore", host("Content-Length: 5_0\r\n"), Want::k400},
      {"fraction", host("Content-Length: 5.0\r\n"), Want::k400},
      {"exponent", host("Content-Length: 5e1\r\n"), Want::k400},
      {"quoted", host("Content-Length: \"5\"\r\n"), Want::k400},
      {"inner space", host("Content-Length: 5 0\r\n"), Want::k400},
      {"empty length", host("Content-Length:\r\n"), Want::k400},
      {"parameter", host("Content-Length: 5;q=1\r\n"), Want::k400},
      {"Arabic digit", host("Content-Length: \xd9\xa5\r\n"), Want::k400},
      {"2^64", host("Content-Length: 18446744073709551616\r\n"), Want::k400},
      {"2^64 + 5", host("Content-Length: 18446744073709551621\r\n"), Want::k400},
      {"forty digits", host("Content-Length: 0000000000000000000000000000000000000005\r\n"), Want::k400},
      // Transfer-Encoding.
      {"chunked", host("Transfer-Encoding: chunked\r\n"), Want::kChunked},
      {"CHUNKED", host("Transfer-Encoding: CHUNKED\r\n"), Want::kChunked},
      {"chunked with spaces around", host("Transfer-Encoding: \t chunked \r\n"), Want::kChunked},
      {"gzip", host("Transfer-Encoding: gzip\r\n"), Want::k501},
      {"identity", host("Transfer-Encoding: identity\r\n"), Want::k501},
      {"xchunked", host("Transfer-Encoding: xchunked\r\n"), Want::k501},
      {"chunke", host("Transfer-Encoding: chunke\r\n"), Want::k501},
      {"gzip, chunked", host("Transfer-Encoding: gzip, chunked\r\n"), Want::k400},
      {"chunked, gzip", host("Transfer-Encoding: chunked, gzip\r\n"), Want::k400},
      {"chunked, chunked", host("Transfer-Encoding: chunked, chunked\r\n"), Want::k400},
      {",chunked", host("Transfer-Encoding: ,chunked\r\n"), Want::k400},
      {"chunked,", host("Transfer-Encoding: chunked,\r\n"), Want::k400},
      {"chunked;q=1", host("Transfer-Encoding: chunked;q=1\r\n"), Want::k400},
      {"quoted chunked", host("Transfer-Encoding: \"chunked\"\r\n"), Want::k400},
      {"empty coding", host("Transfer-Encoding:\r\n"), Want::k400},
      {"vertical tab before chunked", host("Transfer-Encoding: \vchunked\r\n"), Want::k400},
      {"NUL after chunked", with_nul(host("Transfer-Encoding: chunked@\r\n")), Want::k400},
      {"high byte after chunked", host("Transfer-Encoding: chunked\xa0\r\n"), Want::k400},
      {"two Transfer-Encoding", host("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Want::k400},
      {"chunked then identity", host("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), Want::k400},
      {"folded chunked", host("Transfer-Encoding:\r\n chunked\r\n"), Want::k400},
      {"CL then TE", host("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Want::k400},
      {"TE then CL", host("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), Want::k400},
      {"CL 0 and TE", host("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), Want::k400},
      {"CL and unknown TE", host("Content-Length: 5\r\nTransfer-Encoding: x\r\n"), Want::k400},
      {"TE in 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Want::k400},
      {"CL in 1.0", "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n", Want::kLength},
      {"GET with a body", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Want::kLength},
      {"POST without framing has no body", host(""), Want::kNone},
      // Limits, and what is not all there.
      {"100 headers", many_headers(100), Want::kNone},
      {"101 headers", many_headers(101), Want::k431},
      {"10,000 headers", many_headers(10'000), Want::k431},
      {"1 MB target", line("GET /" + string(1 << 20, 'a') + " HTTP/1.1"), Want::k431},
      {"1 MB value", host("X: " + string(1 << 20, 'a') + "\r\n"), Want::k431},
      {"endless first line", string(40'000, 'A'), Want::k431},
      {"endless CRs", string(40'000, '\r'), Want::k431},
      {"nothing", "", Want::kMore},
      {"half a line", "GET / HT", Want::kMore},
      {"no empty line yet", "GET / HTTP/1.1\r\nHost: a\r\n", Want::kMore},
      {"CR of the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\r", Want::kMore},
      {"bare LF before the end is known", "GET / HTTP/1.1\nHost: a", Want::k400},
  };
}

TEST(RequestHead, SmugglingAndLimitTable) {
  const auto cases = request_cases();
  EXPECT_GE(cases.size(), 120u);
  for (const Case& one : cases) {
    RequestHead head;
    Framing framing;
    const auto size = parse_request_head(one.bytes, {}, head, framing);
    EXPECT_EQ(want_name(outcome(size, framing)), want_name(one.want)) << one.what;
  }
}

TEST(RequestHead, KeepsWhatWasSaidAndLeavesTheBody) {
  const string bytes = "\r\nPOST /v1/x?a=1&b HTTP/1.1\r\nHost: a:1\r\nX-Two:\t one two \t\r\nx-two: again\r\nContent-Length: 3\r\n\r\nabcGET";
  RequestHead head;
  Framing framing;
  const auto size = parse_request_head(bytes, {}, head, framing);
  ASSERT_TRUE(size.ok());
  EXPECT_EQ(bytes.substr(*size), "abcGET");
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.target, "/v1/x?a=1&b");
  EXPECT_EQ(head.path(), "/v1/x");
  EXPECT_EQ(head.query(), "a=1&b");
  EXPECT_EQ(head.minor, 1);
  ASSERT_EQ(head.headers.all().size(), 4u);
  EXPECT_EQ(head.headers.all()[1].name, "X-Two");
  EXPECT_EQ(head.headers.all()[1].value, "one two");
  EXPECT_EQ(head.headers.count("X-TWO"), 2u);
  EXPECT_EQ(framing.length, 3u);
}

// A whole head is found at exactly its last byte, whatever came before.
TEST(RequestHead, EveryPrefixWantsMore) {
  const string bytes = host("Content-Length: 5\r\nX: y\r\n");
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    RequestHead head;
    Framing framing;
    const auto size = parse_request_head(string_view(bytes).substr(0, i), {}, head, framing);
    ASSERT_TRUE(size.ok()) << i;
    EXPECT_EQ(*size, 0u) << i;
  }
}

TEST(ResponseHead, Table) {
  const std::vector<Case> cases = {
      {"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Want::kLength},
      {"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Want::kChunked},
      {"until close", "HTTP/1.1 200 OK\r\n\r\n", Want::kUntilClose},
      {"1.0 until close", "HTTP/1.0 200 OK\r\n\r\n", Want::kUntilClose},
      {"no reason", "HTTP/1.1 200\r\n\r\n", Want::kUntilClose},
      {"empty reason", "HTTP/1.1 200 \r\n\r\n", Want::kUntilClose},
      {"reason of words", "HTTP/1.1 404 Not \xc3\xa9 Found\r\nContent-Length: 0\r\n\r\n", Want::kLength},
      {"100", "HTTP/1.1 100 Continue\r\n\r\n", Want::kNone},
      {"204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Want::kNone},
      {"304 chunked", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", Want::kNone},
      {"099", "HTTP/1.1 099 X\r\n\r\n", Want::k400},
      {"600", "HTTP/1.1 600 X\r\n\r\n", Want::k400},
      {"20", "HTTP/1.1 20 OK\r\n\r\n", Want::k400},
      {"2000", "HTTP/1.1 2000 OK\r\n\r\n", Want::k400},
      {"+20", "HTTP/1.1 +20 OK\r\n\r\n", Want::k400},
      {"two spaces", "HTTP/1.1  200 OK\r\n\r\n", Want::k400},
      {"no status", "HTTP/1.1\r\n\r\n", Want::k400},
      {"ICY", "ICY 200 OK\r\n\r\n", Want::k400},
      {"HTTP/2", "HTTP/2 200 OK\r\n\r\n", Want::k400},
      {"HTTP/3.0", "HTTP/3.0 200 OK\r\n\r\n", Want::k501},
      {"bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", Want::k400},
      {"NUL in the reason", with_nul("HTTP/1.1 200 O@K\r\n\r\n"), Want::k400},
      {"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Want::k400},
      {"CL and TE", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Want::k400},
      {"TE in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Want::k400},
      {"unknown TE", "HTTP/1.1 200 OK\r\nTransfer-Encoding: br\r\n\r\n", Want::k501},
      {"endless head", "HTTP/1.1 200 OK\r\nX: " + string(40'000, 'x'), Want::k431},
      {"half", "HTTP/1.1 200 OK\r\nContent-", Want::kMore},
  };
  for (const Case& one : cases) {
    ResponseHead head;
    Framing framing;
    const auto size = parse_response_head(one.bytes, {}, head, framing);
    EXPECT_EQ(want_name(outcome(size, framing)), want_name(one.want)) << one.what;
  }
}

struct Decoded {
  string content;
  string left;
  bool done = false;
  bool refused = false;
  friend bool operator==(const Decoded&, const Decoded&) = default;
};

Decoded decode(Framing framing, string_view bytes, std::size_t piece) {
  BodyReader reader(framing);
  Decoded out;
  out.done = reader.done();
  while (!bytes.empty() && !reader.done()) {
    string_view part = bytes.substr(0, piece);
    const std::size_t given = part.size();
    while (!part.empty() && !reader.done()) {
      const auto content = reader.feed(part);
      if (!content.ok()) {
        out.refused = true;
        return out;
      }
      out.content += *content;
    }
    bytes.remove_prefix(given - part.size());
  }
  out.left = bytes;
  out.done = reader.done();
  return out;
}

struct ChunkCase {
  const char* what;
  string bytes;
  const char* content;  // null: refused
  const char* left = "";
  bool done = true;
};

TEST(BodyReader, ChunkedTable) {
  const std::vector<ChunkCase> cases = {
      {"one chunk", "5\r\nhello\r\n0\r\n\r\n", "hello"},
      {"hex in both cases", "a\r\n0123456789\r\nB\r\n0123456789x\r\n0\r\n\r\n", "01234567890123456789x"},
      {"leading zeros", "0005\r\nhello\r\n000\r\n\r\n", "hello"},
      {"what follows stays", "1\r\na\r\n0\r\n\r\nGET / HTTP/1.1", "a", "GET / HTTP/1.1"},
      {"extension", "1;a=b;c=\"d\"\r\nx\r\n0;last\r\n\r\n", "x"},
      {"trailers", "1\r\na\r\n0\r\nX: y\r\nZ: 1\r\n\r\n", "a"},
      {"not yet", "5\r\nhel", "hel", "", false},
      {"no last chunk yet", "1\r\na\r\n", "a", "", false},
      {"no size", "\r\nhello\r\n", nullptr},
      {"not hex", "g\r\n", nullptr},
      {"0x5", "0x5\r\nhello\r\n", nullptr},
      {"+5", "+5\r\nhello\r\n", nullptr},
      {"-5", "-5\r\nhello\r\n", nullptr},
      {"5_0", "5_0\r\n", nullptr},
      {"space before the size", " 5\r\nhello\r\n", nullptr},
      {"space after the size", "5 \r\nhello\r\n", nullptr},
      {"tab after the size", "5\t\r\nhello\r\n", nullptr},
      {"space before the extension", "5 ;a\r\nhello\r\n", nullptr},
      {"bare LF after the size", "5\nhello\r\n0\r\n\r\n", nullptr},
      {"bare CR after the size", "5\rhello\r\n", nullptr},
      {"CR CR LF", "5\r\r\nhello\r\n", nullptr},
      {"NUL in the size", with_nul("5@\r\nhello\r\n"), nullptr},
      {"LF in an extension", "5;a\nhello\r\n", nullptr},
      {"CR in an extension", "5;a\rb\r\nhello\r\n", nullptr},
      {"NUL in an extension", with_nul("5;a@\r\nhello\r\n"), nullptr},
      {"longer than its size", "4\r\nhello\r\n", nullptr},
      {"shorter than its size", "6\r\nhello\r\n0\r\n\r\n", nullptr},
      {"no CRLF after the data", "5\r\nhello0\r\n\r\n", nullptr},
      {"bare LF after the data", "5\r\nhello\n0\r\n\r\n", nullptr},
      {"bare CR after the data", "5\r\nhello\rx0\r\n\r\n", nullptr},
      {"size overflow", "10000000000000005\r\nhello\r\n", nullptr},
      {"all f", "ffffffffffffffff\r\nhello\r\n", nullptr},
      {"endless zeros", string(300, '0') + "5\r\nhello\r\n", nullptr},
      {"endless extension", "5;" + string(300, 'a') + "\r\nhello\r\n", nullptr},
      {"bare LF ends trailers", "0\r\n\n", nullptr},
      {"bare CR in a trailer", "0\r\nX: a\rb\r\n\r\n", nullptr},
      {"NUL in a trailer", with_nul("0\r\nX: @\r\n\r\n"), nullptr},
      {"endless trailers", "0\r\n" + string(20'000, 'x') + "\r\n\r\n", nullptr},
  };
  for (const ChunkCase& one : cases) {
    const Decoded whole = decode({Framing::Kind::kChunked, 0}, one.bytes, one.bytes.size());
    EXPECT_EQ(whole.refused, one.content == nullptr) << one.what;
    if (one.content != nullptr) {
      EXPECT_EQ(whole.content, one.content) << one.what;
      EXPECT_EQ(whole.left, one.left) << one.what;
      EXPECT_EQ(whole.done, one.done) << one.what;
    }
    for (const std::size_t piece : {1u, 2u, 3u, 7u}) {
      const Decoded split = decode({Framing::Kind::kChunked, 0}, one.bytes, piece);
      EXPECT_EQ(split.refused, whole.refused) << one.what << " in pieces of " << piece;
      if (!whole.refused) EXPECT_TRUE(split == whole) << one.what << " in pieces of " << piece;
    }
  }
}

TEST(BodyReader, ManySmallExtensionsAreBoundedInSum) {
  string bytes;
  for (int i = 0; i < 1'000; ++i) bytes += "1;" + string(200, 'e') + "\r\nx\r\n";
  EXPECT_TRUE(decode({Framing::Kind::kChunked, 0}, bytes, 1'000).refused);
  string honest;
  for (int i = 0; i < 100'000; ++i) honest += "1\r\nx\r\n";
  EXPECT_EQ(decode({Framing::Kind::kChunked, 0}, honest + "0\r\n\r\n", 10'000).content.size(), 100'000u);
}

TEST(BodyReader, LengthAndUntilClose) {
  EXPECT_EQ(decode({Framing::Kind::kLength, 5}, "hello next", 100), (Decoded{"hello", " next", true, false}));
  EXPECT_EQ(decode({Framing::Kind::kLength, 5}, "hello next", 1), (Decoded{"hello", " next", true, false}));
  EXPECT_EQ(decode({Framing::Kind::kLength, 0}, "next", 1), (Decoded{"", "next", true, false}));
  EXPECT_EQ(decode({Framing::Kind::kNone, 0}, "next", 1), (Decoded{"", "next", true, false}));
  EXPECT_EQ(decode({Framing::Kind::kUntilClose, 0}, "all of it", 2), (Decoded{"all of it", "", false, false}));

  BodyReader close({Framing::Kind::kUntilClose, 0});
  EXPECT_TRUE(close.end_of_input().ok());
  EXPECT_TRUE(close.done());
  BodyReader length({Framing::Kind::kLength, 2});
  string_view one = "x";
  ASSERT_TRUE(length.feed(one).ok());
  EXPECT_EQ(length.end_of_input().error().kind, ErrorKind::kUpstream);
  BodyReader chunked({Framing::Kind::kChunked, 0});
  EXPECT_FALSE(chunked.end_of_input().ok());
}

// What is forwarded parses to the same head again, with exactly one framing header, however it was framed before.
TEST(WriteHead, RoundTripsWithOneFraming) {
  for (const Framing framing : {Framing{Framing::Kind::kNone, 0}, Framing{Framing::Kind::kLength, 7}, Framing{Framing::Kind::kChunked, 0}}) {
    RequestHead out{"POST", "/x?y", 1, {}};
    out.headers.add("Host", "a");
    out.headers.add("Content-Length", "999");
    out.headers.add("content-length", "5");
    out.headers.add("Transfer-Encoding", "gzip");
    out.headers.add("X", "a b");
    const string text = write_request_head(out, framing);
    RequestHead in;
    Framing got;
    const auto size = parse_request_head(text, {}, in, got);
    ASSERT_TRUE(size.ok()) << size.error().message;
    EXPECT_EQ(*size, text.size());
    EXPECT_EQ(got.kind, framing.kind);
    EXPECT_EQ(got.length, framing.length);
    EXPECT_EQ(*in.headers.find("x"), "a b");
    EXPECT_LE(in.headers.count("content-length") + in.headers.count("transfer-encoding"), 1u);
  }
  ResponseHead out;
  out.status = 503;
  out.headers.add("Retry-After", "1");
  const string text = write_response_head(out, {Framing::Kind::kLength, 0});
  EXPECT_EQ(text, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
}

}  // namespace
}  // namespace warmpath::http
