// The paths that take requests for a model.
#include <array>

#include "api/api.h"

namespace warmpath::api {
namespace {

struct Row {
  Endpoint endpoint;
  std::string_view path;
};
constexpr std::array<Row, 7> kRows = {{{Endpoint::kChatCompletions, "/v1/chat/completions"},
                                       {Endpoint::kCompletions, "/v1/completions"},
                                       {Endpoint::kResponses, "/v1/responses"},
                                       {Endpoint::kMessages, "/v1/messages"},
                                       {Endpoint::kCountTokens, "/v1/messages/count_tokens"},
                                       {Endpoint::kEmbeddings, "/v1/embeddings"},
                                       {Endpoint::kGenerate, "/inference/v1/generate"}}};

constexpr auto kEndpoints = [] {
  std::array<Endpoint, kRows.size()> all{};
  for (std::size_t i = 0; i < kRows.size(); ++i) all[i] = kRows[i].endpoint;
  return all;
}();

}  // namespace

std::span<const Endpoint> endpoints() { return kEndpoints; }

std::optional<Endpoint> endpoint_of_path(std::string_view path) {
  for (const Row& row : kRows) {
    if (row.path == path) return row.endpoint;
  }
  return std::nullopt;
}

std::string_view path_of_endpoint(Endpoint endpoint) {
  for (const Row& row : kRows) {
    if (row.endpoint == endpoint) return row.path;
  }
  WP_CHECK(false);
}

bool takes_stream_options(Endpoint endpoint) {
  return endpoint == Endpoint::kChatCompletions || endpoint == Endpoint::kCompletions ||
         endpoint == Endpoint::kGenerate;
}

bool has_chat(Endpoint endpoint) {
  return endpoint == Endpoint::kChatCompletions || endpoint == Endpoint::kResponses ||
         endpoint == Endpoint::kMessages || endpoint == Endpoint::kCountTokens;
}

ErrorForm error_form_of(Endpoint endpoint) {
  switch (endpoint) {
    case Endpoint::kMessages:
    case Endpoint::kCountTokens: return ErrorForm::kAnthropic;
    case Endpoint::kResponses: return ErrorForm::kResponses;
    default: return ErrorForm::kOpenAi;
  }
}

}  // namespace warmpath::api
