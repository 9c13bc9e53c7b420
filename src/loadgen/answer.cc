#include "loadgen/answer.h"

namespace warmpath::loadgen {
namespace {

// The simulated engine adds "warmpath":{"ttft_ms":…} beside `usage` when asked: latency in engine time.
std::optional<double> find_engine_ttft(std::string_view json) {
  constexpr std::string_view kKey = "\"warmpath\":{\"ttft_ms\":";
  const auto at = json.rfind(kKey);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view rest = json.substr(at + kKey.size());
  const auto ms = parse_double(rest.substr(0, rest.find_first_of(",}")));
  if (!ms) return std::nullopt;
  return *ms / 1e3;
}

}  // namespace

void Answer::read_usage(std::string_view json) {
  if (auto usage = api::find_usage(json)) usage_ = usage;
  if (auto ttft = find_engine_ttft(json)) engine_ttft_ = ttft;
}

void Answer::feed(std::string_view bytes, double at) {
  if (status_ != 200 || !fault_.empty()) return;  // an error's body is not kept
  if (!stream_) {
    if (whole_.size() + bytes.size() > kAnswerBytesMax) {
      fault_ = "too_large";
      return;
    }
    whole_ += bytes;
    return;
  }
  const auto fed = sse_.feed(bytes, [&](std::string_view data) { event(data, at); });
  if (!fed.ok()) fault_ = "broken_stream";
}

void Answer::event(std::string_view data, double at) {
  if (data == "[DONE]") {
    done_seen_ = true;
    return;
  }
  if (data.starts_with("{\"error\"")) {
    fault_ = "error_event";
    return;
  }
  read_usage(data);
  const auto text = api::text_of_chunk(data);
  if (!text || text->empty()) return;
  if (text_.size() + text->size() > kAnswerBytesMax) {
    fault_ = "too_large";
    return;
  }
  text_ += *text;
  if (!first_at_) {
    first_at_ = at;
  } else {
    gaps_.push_back(at - last_at_);
  }
  last_at_ = at;
}

std::string Answer::end(double at) {
  if (status_ != 200) return "status_" + std::to_string(status_);
  if (!fault_.empty()) return fault_;
  if (stream_) return done_seen_ ? "" : "broken_stream";
  const auto text = api::text_of_response(whole_);
  if (!text) return "malformed";
  text_ = *text;
  first_at_ = at;
  read_usage(whole_);
  return {};
}

}  // namespace warmpath::loadgen
