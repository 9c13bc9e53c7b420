// doctor: asks a live engine what it makes of a few probes and compares it with what we compute: ids, blocks, hits. It
// names the cause of a difference and the remedy.
//
//   auto report = doctor::examine({.url = url}, *tokenizer);
//   if (!report) …                                  // not reachable, no such model
//   std::fputs(to_table(*report).c_str(), stdout);
//
// What it sends: a handful of GETs, about twenty texts and chats to /tokenize or /render (where the engine allows it),
// and at most ten short generations of one token each. Every prompt begins with a random word and carries a cache salt
// of its own, so that it neither reads nor pollutes what others cache; events of other traffic are told apart by that
// word. On an engine with data-parallel ranks it looks at rank 0 and listens to all.
//
// How it judges: evidence is gathered first (examination.h), then each check reads it alone (checks.h, pure).
// Thread rule: examine() runs a loop of its own and blocks, at most `total_max`.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "http/http.h"
#include "ingest/ingest.h"
#include "io/io.h"
#include "tokens/tokens.h"

namespace warmpath::doctor {

struct Options {
  http::Url url;
  std::shared_ptr<io::TlsClientContext> tls;       // https
  std::optional<ingest::EventSource> events;       // nullopt: the engine is asked
  std::uint32_t ranks = 0;                         // 0: the engine is asked
  std::string model;                               // empty: the first it serves
  std::string authorization;                       // header of every request; empty: none
  std::uint64_t nonce = 0;                         // of the prompts: another one each time
  std::int64_t now_unix_seconds = 0;               // for templates that print the date
  Duration step_max = std::chrono::seconds(30);    // one answer
  Duration total_max = std::chrono::seconds(120);  // everything: what is left then is not tested
  Duration events_max = std::chrono::seconds(2);   // from an answer to its events
};

enum class Outcome : std::uint8_t { kOk, kWarning, kFault, kNotTested };
std::string_view outcome_name(Outcome outcome);  // "ok", "warning", "fault", "not tested"

struct Finding {
  std::string check;  // stable: "tokenizer", "block size", …
  Outcome outcome = Outcome::kOk;
  std::string cause;   // stable word of a warning or fault: "chat_template", "salt", …; else empty
  std::string detail;  // one line
  std::string remedy;  // one line; empty when there is nothing to do
};

struct Report {
  std::string engine;
  std::string version;  // as it tells; may be empty
  std::string model;
  std::vector<Finding> findings;  // in the order of the checks
  std::size_t count(Outcome outcome) const;
};

// kUnavailable, kTimeoutEngine, kUpstream: nobody answers there as an engine does; kNotFound: it does not serve the
// model; kUnauthorized: it wants a key.
Result<Report> examine(const Options& options, const tokens::Tokenizer& tokenizer);

std::string to_table(const Report& report);  // a line a check, remedies below theirs, the verdict
std::string to_json(const Report& report);   // one object

}  // namespace warmpath::doctor
