#include "app/option_files.h"

#include <optional>
#include <utility>

#include "app/model_folder.h"
#include "io/files.h"
#include "schedule/schedule.h"

namespace warmpath::app {
namespace {

constexpr std::size_t kPemBytesMax = 4u << 20;
constexpr std::size_t kSecretBytesMax = 4u << 10;
constexpr std::size_t kSecretCharactersMin = 16;

std::string path_fault(std::string_view option, const std::string& path) {
  const auto why = [](const auto& result) { return result.ok() ? std::string() : result.error().message; };
  if (option == "tokenizer") return why(find_model_folder(path));
  if (option == "secret_file") return why(read_secret(path));
  if (option == "ca") return why(read_tls_context(path));
  WP_CHECK(false);
}

}  // namespace

Result<std::shared_ptr<io::TlsClientContext>> read_tls_context(const std::string& ca_file) {
  std::optional<std::string> authority;
  if (!ca_file.empty()) {
    auto pem = io::read_file(ca_file, kPemBytesMax);
    if (!pem.ok()) return std::move(pem).error();
    authority = std::move(pem).value();
  }
  auto context = io::TlsClientContext::create(authority);
  if (!context.ok() && !ca_file.empty()) return Error{context.error().kind, ca_file + ": " + context.error().message};
  return context;
}

Result<std::uint64_t> read_secret(const std::string& file) {
  auto text = io::read_file(file, kSecretBytesMax);
  if (!text.ok()) return std::move(text).error();
  const std::string_view key = trim(*text);
  if (key.size() < kSecretCharactersMin) {
    return Error{ErrorKind::kInvalid, file + ": at least " + std::to_string(kSecretCharactersMin) +
                                          " characters are needed, there are " + std::to_string(key.size())};
  }
  return RandomStream(stable_hash(key), "pool.secret").next();
}

config::Checks config_checks() {
  config::Checks checks;
  for (const schedule::Policy* policy : schedule::policies()) checks.policies.push_back(policy->name());
  checks.path_fault = path_fault;
  return checks;
}

}  // namespace warmpath::app
