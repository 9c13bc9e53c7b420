// One answer as it arrives: status, text, times and usage.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/api.h"
#include "base/base.h"
#include "http/sse.h"

namespace warmpath::loadgen {

inline constexpr std::size_t kAnswerBytesMax = 64u << 20;

// Times are seconds since the request was sent. Thread rule: one owner.
class Answer {
 public:
  explicit Answer(bool stream) : stream_(stream) {}

  void head(int status) { status_ = status; }
  void feed(std::string_view bytes, double at);
  // The body is whole. Returns why it counts as failed; empty when it went well: a 200 with content, and for a stream
  // its [DONE].
  std::string end(double at);

  const std::string& text() const { return text_; }
  const std::optional<api::Usage>& usage() const { return usage_; }
  std::optional<double> first_content_at() const { return first_at_; }
  std::optional<double> engine_ttft() const { return engine_ttft_; }
  const std::vector<double>& gaps() const { return gaps_; }

 private:
  void event(std::string_view data, double at);
  void read_usage(std::string_view json);

  bool stream_;
  int status_ = 0;
  http::SseParser sse_;
  std::string whole_;  // of an answer that is no stream
  std::string text_;
  std::optional<api::Usage> usage_;
  std::optional<double> engine_ttft_;
  std::optional<double> first_at_;
  double last_at_ = 0;
  std::vector<double> gaps_;
  std::string fault_;
  bool done_seen_ = false;
};

}  // namespace warmpath::loadgen
