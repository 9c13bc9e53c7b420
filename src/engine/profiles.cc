#include <simdjson.h>

#include <cmath>
#include <string>

#include "engine/engine.h"
#include "engine/shipped_profiles_json.h"

namespace warmpath::engine {
namespace {

using simdjson::dom::element;

Error fault(std::string_view profile, std::string_view field, std::string_view allowed) {
  return {ErrorKind::kInvalid,
          "engine profile '" + std::string(profile) + "', field '" + std::string(field) + "': " + std::string(allowed)};
}

bool read_time(element value, double& out) {
  double number = 0;
  if (value.get_double().get(number) != simdjson::SUCCESS || !std::isfinite(number) || number < 0) return false;
  out = number;
  return true;
}

template <class Int>
bool read_count(element value, std::uint64_t least, std::uint64_t most, Int& out) {
  std::uint64_t number = 0;
  if (value.get_uint64().get(number) != simdjson::SUCCESS || number < least || number > most) return false;
  out = static_cast<Int>(number);
  return true;
}

bool read_text(element value, std::string& out) {
  std::string_view text;
  if (value.get_string().get(text) != simdjson::SUCCESS || text.empty()) return false;
  out = text;
  return true;
}

// Empty: read. Otherwise what is allowed there.
std::string_view read_field(std::string_view name, element value, Profile& out) {
  constexpr std::string_view kTime = "a number of at least 0 is wanted";
  constexpr std::string_view kCount = "a whole number from 1 to 2^28 is wanted";
  constexpr std::uint64_t kMost = 1u << 28;
  const auto time = [&](double& field) { return read_time(value, field) ? std::string_view() : kTime; };
  const auto count = [&](auto& field) { return read_count(value, 1, kMost, field) ? std::string_view() : kCount; };
  const auto text = [&](std::string& field) {
    return read_text(value, field) ? std::string_view() : std::string_view("a text is wanted");
  };
  if (name == "name") return text(out.name);
  if (name == "source") return text(out.source);
  if (name == "prefill_us_per_token") return time(out.prefill_us_per_token);
  if (name == "prefill_ps_per_token2") return time(out.prefill_ps_per_token2);
  if (name == "step_base_ms") return time(out.step_base_ms);
  if (name == "step_ms_per_sequence") return time(out.step_ms_per_sequence);
  if (name == "step_ms_per_kilotoken") return time(out.step_ms_per_kilotoken);
  if (name == "block_tokens") return count(out.block_tokens);
  if (name == "kv_blocks") return count(out.kv_blocks);
  if (name == "batched_tokens_max") return count(out.batched_tokens_max);
  if (name == "sequences_max") return count(out.sequences_max);
  if (name == "model_tokens_max") return count(out.model_tokens_max);
  return "no such field";
}

Result<Profile> read_profile(const simdjson::dom::object& object, std::size_t position) {
  Profile profile;
  std::string label = "#" + std::to_string(position);
  std::string_view name;
  if (object["name"].get_string().get(name) == simdjson::SUCCESS) label = name;
  for (const auto field : object) {
    if (const auto allowed = read_field(field.key, field.value, profile); !allowed.empty()) {
      return fault(label, field.key, allowed);
    }
  }
  if (profile.name.empty()) return fault(label, "name", "a text is wanted");
  if (profile.source.empty()) return fault(label, "source", "a text that says where the numbers come from is wanted");
  return profile;
}

}  // namespace

Result<std::vector<Profile>> parse_profiles(std::string_view json) {
  simdjson::dom::parser parser;
  element root;
  if (const auto error = parser.parse(json.data(), json.size(), true).get(root); error != simdjson::SUCCESS) {
    return Error{ErrorKind::kInvalid, std::string("engine profiles: not JSON: ") + simdjson::error_message(error)};
  }
  simdjson::dom::array array;
  if (root.get_array().get(array) != simdjson::SUCCESS) {
    return Error{ErrorKind::kInvalid, "engine profiles: an array of objects is wanted"};
  }
  std::vector<Profile> profiles;
  for (const element item : array) {
    simdjson::dom::object object;
    if (item.get_object().get(object) != simdjson::SUCCESS) {
      return Error{ErrorKind::kInvalid,
                   "engine profiles: entry #" + std::to_string(profiles.size()) + " is not an object"};
    }
    auto profile = read_profile(object, profiles.size());
    if (!profile) return profile.error();
    for (const Profile& other : profiles) {
      if (other.name == profile->name) return fault(profile->name, "name", "it is taken by an earlier profile");
    }
    profiles.push_back(std::move(*profile));
  }
  if (profiles.empty()) return Error{ErrorKind::kInvalid, "engine profiles: the array is empty"};
  return profiles;
}

const std::vector<Profile>& shipped_profiles() {
  static const std::vector<Profile> profiles = [] {
    auto parsed = parse_profiles(kShippedProfilesJson);
    WP_CHECK(parsed.ok());
    return std::move(*parsed);
  }();
  return profiles;
}

Result<Profile> find_profile(std::span<const Profile> profiles, std::string_view name) {
  std::vector<std::string_view> names;
  std::string all;
  for (const Profile& profile : profiles) {
    if (profile.name == name) return profile;
    all += (all.empty() ? "" : ", ") + profile.name;
    names.push_back(profile.name);
  }
  std::string message = "no engine profile '" + std::string(name) + "'; there are: " + all;
  if (const auto near = nearest_name(name, names)) message += "; did you mean '" + std::string(*near) + "'?";
  return Error{ErrorKind::kNotFound, std::move(message)};
}

}  // namespace warmpath::engine
