// Generation: one completion exchange while the model works on it: collects or streams what comes, in OpenAI's form.
// Thread rule: the loop's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/api.h"
#include "base/base.h"
#include "engine/engine.h"
#include "engine_server/metrics.h"
#include "http/http.h"

namespace warmpath::engine_server {

enum class Timing : std::uint8_t { kSilent, kTell };

// One answer of it: one request in the model.
struct ChoiceState {
  std::uint64_t model_id = 0;
  std::uint32_t index = 0;
  std::uint32_t prompt = 0;  // which of several it answers
  FinishReason end = FinishReason::kLength;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t cached_tokens = 0;
  std::uint64_t output_tokens = 0;
  std::string text;          // whole answers, and Responses
  std::vector<TokenId> ids;  // whole answers of token ids only
  std::vector<float> vector;
  Instant added_at;
  Instant scheduled_at;
  Instant first_at;
  Instant last_at;
  bool done = false;
};

class Generation {
 public:
  struct Options {
    api::Endpoint endpoint = api::Endpoint::kChatCompletions;
    std::string id;
    std::string model;
    std::int64_t created = 0;
    bool stream = false;
    bool include_usage = false;
    bool tell_cached = true;
    Timing timing = Timing::kSilent;
    double speed = 1;
    std::uint32_t rank = 0;
    api::EmbeddingFormat format = api::EmbeddingFormat::kFloat;
    std::uint64_t output_tokens_max = 0;
  };
  Generation(std::shared_ptr<http::Exchange> exchange, Options options, std::vector<ChoiceState> choices);

  void start();  // a stream's head goes out at once
  // One token of one answer and its text. Returns true when the exchange is complete: everything is written.
  bool emit(ChoiceState& choice, TokenId token, std::string_view text, bool finished);

  std::vector<ChoiceState>& choices() { return choices_; }
  std::uint32_t rank() const { return options_.rank; }
  FinishedTimes times(const ChoiceState& choice) const;  // engine time
  double engine_seconds(Duration d) const { return to_seconds(d) * options_.speed; }

 private:
  void stream_token(ChoiceState& choice, TokenId token, std::string_view text, bool finished);
  api::ResponseAnswer response(const ChoiceState& choice, std::string_view extra_members_json) const;
  api::MessageAnswer message(const ChoiceState& choice, std::string_view extra_members_json) const;
  std::string whole_body();
  void finish_stream();
  void finish_whole();
  api::Usage usage() const;
  std::string extra() const;

  std::shared_ptr<http::Exchange> exchange_;
  Options options_;
  std::vector<ChoiceState> choices_;
  std::size_t left_;
  std::string item_id_;       // of Responses
  std::uint64_t events_ = 0;  // of Responses: written so far
};

}  // namespace warmpath::engine_server
