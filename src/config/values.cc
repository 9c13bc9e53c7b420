// Text into a field and back, one switch over the kinds of row.
#include <algorithm>
#include <array>

#include "config/rows.h"

namespace warmpath::config {
namespace {

constexpr std::size_t kTextBytesMax = 4'096;

Error refused(const Rule& rule, std::string_view text) {
  std::string shown(text.substr(0, 80));
  if (shown.size() < text.size()) shown += "…";
  return {ErrorKind::kInvalid, "takes " + allowed_text(rule) + ", not '" + shown + "'"};
}

bool is_port(std::string_view text, std::uint64_t least) {
  const auto port = parse_u64(text);
  return port && *port >= least && *port <= 65'535;
}

bool is_host(std::string_view text) {
  return !text.empty() && text.find_first_of(" \t/@?#[]:,'\"\\") == std::string_view::npos;
}

// HOST:PORT or [v6]:PORT. Port 0 is one to listen at, none to connect to.
bool is_host_port(std::string_view text, std::uint64_t port_min) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos || !is_port(text.substr(colon + 1), port_min)) return false;
  const std::string_view host = text.substr(0, colon);
  if (host.starts_with('[')) {
    return host.size() > 3 && host.ends_with(']') &&
           host.substr(1, host.size() - 2).find_first_not_of("0123456789abcdefABCDEF:.%") == std::string_view::npos;
  }
  return is_host(host);
}

bool is_url(std::string_view text) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!text.starts_with(scheme)) continue;
    const std::string_view rest = text.substr(scheme.size());
    return is_host_port(rest, 1) || is_host(rest);
  }
  return false;
}

bool is_zmq_address(std::string_view text) {
  constexpr std::string_view kTcp = "tcp://";
  return text.starts_with(kTcp) && is_host_port(text.substr(kTcp.size()), 1);
}

bool is_clean(std::string_view text) {
  return text.size() <= kTextBytesMax &&
         std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; });
}

Result<void> one_of(std::span<const std::string_view> words, std::string_view text) {
  if (std::find(words.begin(), words.end(), text) != words.end()) return {};
  std::string message = "takes one of ";
  for (std::size_t i = 0; i < words.size(); ++i) message.append(i == 0 ? "" : ", ").append(words[i]);
  message.append(", not '").append(text.substr(0, 80)).append("'");
  if (const auto near = nearest_name(text.substr(0, 80), words)) {
    message.append("; did you mean '").append(*near).append("'?");
  }
  return Error{ErrorKind::kInvalid, std::move(message)};
}

template <class T>
T& as(const Field& field) {
  T* const* place = std::get_if<T*>(&field);
  WP_CHECK(place != nullptr);
  return **place;
}

Result<void> set_number(const Rule& rule, const Field& field, std::string_view text) {
  const auto number = parse_u64(text);
  if (!number || *number < rule.min || *number > rule.max) return refused(rule, text);
  if (auto* const* narrow = std::get_if<std::uint32_t*>(&field)) {
    **narrow = static_cast<std::uint32_t>(*number);
  } else {
    as<std::uint64_t>(field) = *number;
  }
  return {};
}

Result<void> set_choice(const Rule& rule, const Field& field, std::string_view text) {
  if (auto found = one_of(rule.words, text); !found) return found;
  const auto at = std::find(rule.words.begin(), rule.words.end(), text) - rule.words.begin();
  if (auto* const* level = std::get_if<LogLevel*>(&field)) {
    **level = static_cast<LogLevel>(at);
  } else if (auto* const* ask = std::get_if<AskEngine*>(&field)) {
    **ask = static_cast<AskEngine>(at);
  } else {
    as<LogFormat>(field) = static_cast<LogFormat>(at);
  }
  return {};
}

Result<void> set_size(const Rule& rule, const Field& field, std::string_view text) {
  const auto size = parse_size(text);
  if (!size || *size < rule.min || *size > rule.max) return refused(rule, text);
  as<std::uint64_t>(field) = *size;
  return {};
}

Result<void> set_time(const Rule& rule, const Field& field, std::string_view text) {
  const auto time = parse_duration(text);
  if (!time || *time < std::chrono::milliseconds(rule.min) || *time > std::chrono::milliseconds(rule.max)) {
    return refused(rule, text);
  }
  as<Duration>(field) = *time;
  return {};
}

Result<void> set_kv(const Rule& rule, const Field& field, std::string_view text) {
  constexpr std::string_view kBind = "bind:";
  auto& kv = as<std::optional<KvSource>>(field);
  const bool bind = rule.kind == Kind::kKvEvents && text.starts_with(kBind);
  const std::string_view address = bind ? text.substr(kBind.size()) : text;
  if (!is_zmq_address(address) || (!bind && address.starts_with("tcp://*"))) return refused(rule, text);
  if (!kv) kv.emplace();
  if (rule.kind == Kind::kKvReplay) {
    kv->replay = address;
  } else {
    kv->side = bind ? KvSource::Side::kBind : KvSource::Side::kConnect;
    kv->events = address;
  }
  return {};
}

}  // namespace

Result<void> set_field(const Rule& rule, const Field& field, std::string_view text, const Checks& checks) {
  switch (rule.kind) {
    case Kind::kNumber: return set_number(rule, field, text);
    case Kind::kSize: return set_size(rule, field, text);
    case Kind::kTime: return set_time(rule, field, text);
    case Kind::kChoice: return set_choice(rule, field, text);
    case Kind::kKvEvents:
    case Kind::kKvReplay: return set_kv(rule, field, text);
    case Kind::kSwitch:
      if (text != "true" && text != "false") return refused(rule, text);
      as<bool>(field) = text == "true";
      return {};
    case Kind::kList:
      if (text.empty() || !is_clean(text)) return refused(rule, text);
      as<std::vector<std::string>>(field).emplace_back(text);
      return {};
    case Kind::kPolicy:
      if (!checks.policies.empty()) {
        if (auto found = one_of(checks.policies, text); !found) return found;
      }
      break;
    case Kind::kAddress:
      if (!is_host_port(text, 0) || text.starts_with('*')) return refused(rule, text);
      break;
    case Kind::kUrl:
      if (text.ends_with('/')) text.remove_suffix(1);
      if (!is_url(text)) return refused(rule, text);
      break;
    case Kind::kText: break;
  }
  if (text.empty() || !is_clean(text)) return refused(rule, text);
  as<std::string>(field) = text;
  return {};
}

std::string field_text(const Rule& rule, const Field& field) {
  switch (rule.kind) {
    case Kind::kNumber:
      if (auto* const* narrow = std::get_if<std::uint32_t*>(&field)) return std::to_string(**narrow);
      return std::to_string(as<std::uint64_t>(field));
    case Kind::kSize: return size_text(as<std::uint64_t>(field));
    case Kind::kTime: return duration_text(as<Duration>(field));
    case Kind::kSwitch: return as<bool>(field) ? "true" : "false";
    case Kind::kChoice: {
      std::size_t at = 0;
      if (const auto* const* level = std::get_if<LogLevel*>(&field)) {
        at = static_cast<std::size_t>(**level);
      } else if (const auto* const* ask = std::get_if<AskEngine*>(&field)) {
        at = static_cast<std::size_t>(**ask);
      } else {
        at = static_cast<std::size_t>(as<LogFormat>(field));
      }
      return std::string(rule.words[at]);
    }
    case Kind::kKvEvents: {
      const auto& kv = as<std::optional<KvSource>>(field);
      return kv ? (kv->side == KvSource::Side::kBind ? "bind:" : "") + kv->events : std::string();
    }
    case Kind::kKvReplay: {
      const auto& kv = as<std::optional<KvSource>>(field);
      return kv ? kv->replay : std::string();
    }
    case Kind::kList: {
      std::string out;
      for (const auto& item : as<std::vector<std::string>>(field)) out += (out.empty() ? "" : ", ") + item;
      return out;
    }
    case Kind::kText:
    case Kind::kAddress:
    case Kind::kUrl:
    case Kind::kPolicy: break;
  }
  return as<std::string>(field);
}

std::string allowed_text(const Rule& rule) {
  switch (rule.kind) {
    case Kind::kNumber:
      if (rule.max >= std::uint64_t{1} << 53) return "a whole number of at least " + std::to_string(rule.min);
      return "a whole number from " + std::to_string(rule.min) + " to " + std::to_string(rule.max);
    case Kind::kSize: return "a size (65536, 64KiB, 16MiB) from " + size_text(rule.min) + " to " + size_text(rule.max);
    case Kind::kTime:
      return "a time (500ms, 30s, 2m) from " + duration_text(std::chrono::milliseconds(rule.min)) + " to " +
             duration_text(std::chrono::milliseconds(rule.max));
    case Kind::kSwitch: return "true or false";
    case Kind::kAddress:
      return "HOST:PORT or [IPV6]:PORT with a port from 0 to 65535 (all interfaces: 0.0.0.0 or [::])";
    case Kind::kUrl: return "http://HOST:PORT or https://HOST:PORT without a path";
    case Kind::kKvEvents: return "tcp://HOST:PORT, or bind:tcp://HOST:PORT for an engine that dials out";
    case Kind::kKvReplay: return "tcp://HOST:PORT";
    case Kind::kPolicy: return "the name of a policy";
    case Kind::kList: return "a list of texts without control characters, none empty, at most 4096 bytes each";
    case Kind::kChoice: {
      std::string out = "one of ";
      for (std::size_t i = 0; i < rule.words.size(); ++i) out.append(i == 0 ? "" : ", ").append(rule.words[i]);
      return out;
    }
    case Kind::kText: break;
  }
  return "a text without control characters, not empty, at most 4096 bytes";
}

std::string_view type_text(Kind kind) {
  switch (kind) {
    case Kind::kNumber: return "number";
    case Kind::kSize: return "size";
    case Kind::kTime: return "time";
    case Kind::kSwitch: return "switch";
    case Kind::kAddress: return "address";
    case Kind::kUrl: return "URL";
    case Kind::kKvEvents:
    case Kind::kKvReplay: return "ZMQ address";
    case Kind::kPolicy:
    case Kind::kChoice: return "choice";
    case Kind::kList: return "list";
    case Kind::kText: break;
  }
  return "text";
}

}  // namespace warmpath::config
