// Reading of engines' answers: usage, text.
#include "api/api.h"
#include "api/json_scan.h"

namespace warmpath::api {
namespace {

using Kind = JsonScan::Kind;
constexpr std::size_t kDepthMax = 64;
constexpr std::string_view kUsageKey = R"("usage")";

std::optional<std::uint64_t> read_count(JsonScan& scan) {
  if (scan.peek() != Kind::kNumber) {
    scan.skip();
    return std::nullopt;
  }
  return parse_u64(scan.text_of(scan.number()));
}

std::optional<Usage> read_usage(JsonScan& scan) {
  if (scan.peek() != Kind::kObject) {
    scan.skip();
    return std::nullopt;
  }
  Usage usage;
  std::uint64_t apart = 0;  // Anthropic's input_tokens are those that no cache had to do with
  scan.object([&](std::string_view key) {
    if (key == "prompt_tokens" || key == "input_tokens") {
      usage.prompt_tokens = read_count(scan).value_or(0);
    } else if (key == "completion_tokens" || key == "output_tokens") {
      usage.completion_tokens = read_count(scan).value_or(0);
    } else if ((key == "prompt_tokens_details" || key == "input_tokens_details") && scan.peek() == Kind::kObject) {
      scan.object([&](std::string_view detail) {
        if (detail == "cached_tokens") {
          usage.cached_tokens = read_count(scan);
        } else {
          scan.skip();
        }
      });
    } else if (key == "cache_read_input_tokens") {
      usage.cached_tokens = read_count(scan);
      apart += usage.cached_tokens.value_or(0);
    } else if (key == "cache_creation_input_tokens") {
      apart += read_count(scan).value_or(0);
    } else {
      scan.skip();
    }
  });
  usage.prompt_tokens += apart;
  return usage;
}

// The string member `name` of the object that comes next; everything else is skipped.
std::optional<std::string> read_string_member(JsonScan& scan, std::string_view name) {
  std::optional<std::string> found;
  if (scan.peek() != Kind::kObject) {
    scan.skip();
    return found;
  }
  scan.object([&](std::string_view key) {
    if (key == name && scan.peek() == Kind::kString) {
      found = scan.string();
    } else {
      scan.skip();
    }
  });
  return found;
}

// Text of choices[0]: member `holder` (an object with "content"), or "text".
std::optional<std::string> first_text(std::string_view json, std::string_view holder) {
  if (first_bad_utf8(json)) return std::nullopt;
  JsonScan scan(json, kDepthMax);
  std::optional<std::string> text;
  const auto choice = [&](std::string_view key) {
    if (key == holder) {
      if (auto content = read_string_member(scan, "content")) text = std::move(content);
    } else if (key == "text" && scan.peek() == Kind::kString) {
      text = scan.string();
    } else {
      scan.skip();
    }
  };
  scan.object([&](std::string_view key) {
    if (key != "choices" || scan.peek() != Kind::kArray) {
      scan.skip();
      return;
    }
    bool first = true;
    scan.array([&] {
      if (std::exchange(first, false) && scan.peek() == Kind::kObject) {
        scan.object(choice);
      } else {
        scan.skip();
      }
    });
  });
  scan.finish();
  if (scan.failed()) return std::nullopt;
  return text;
}

}  // namespace

std::optional<Usage> find_usage(std::string_view json) {
  if (json.find(kUsageKey) == std::string_view::npos) return std::nullopt;
  JsonScan scan(json, kDepthMax);
  std::optional<Usage> usage;
  const auto member = [&](std::string_view key) {
    if (key == "usage") {
      usage = read_usage(scan);
    } else {
      scan.skip();
    }
  };
  scan.object([&](std::string_view key) {
    // Events of Responses hold the response, the first one of Anthropic's a message.
    if ((key == "response" || key == "message") && scan.peek() == Kind::kObject) {
      scan.object(member);
    } else {
      member(key);
    }
  });
  scan.finish();
  if (scan.failed()) return std::nullopt;
  return usage;
}

bool is_usage_only_chunk(std::string_view json) {
  if (json.find(kUsageKey) == std::string_view::npos) return false;
  JsonScan scan(json, kDepthMax);
  bool usage = false;
  bool no_choices = false;
  scan.object([&](std::string_view key) {
    if (key == "usage") {
      usage = scan.peek() == Kind::kObject;
      scan.skip();
    } else if (key == "choices" && scan.peek() == Kind::kArray) {
      no_choices = true;
      scan.array([&] {
        no_choices = false;
        scan.skip();
      });
    } else {
      scan.skip();
    }
  });
  scan.finish();
  return !scan.failed() && usage && no_choices;
}

std::optional<std::string> text_of_chunk(std::string_view json) { return first_text(json, "delta"); }
std::optional<std::string> text_of_response(std::string_view json) { return first_text(json, "message"); }

}  // namespace warmpath::api
