// The files that options name, and what config checks of them. Private to app.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/base.h"
#include "config/gateway_table.h"
#include "io/io.h"

namespace warmpath::app {

// What TLS connections are made with. `ca_file`: PEM certificates, at most 4 MiB; empty: the system's authorities.
// Errors name the file.
Result<std::shared_ptr<io::TlsClientContext>> read_tls_context(const std::string& ca_file);

// The secret of a pool's block keys: at least 16 characters, white space around them does not count. Errors name the
// file, never what is in it.
Result<std::uint64_t> read_secret(const std::string& file);

// The names of policies, and a look at each file: tokenizers are looked for, not loaded.
config::Checks config_checks();

}  // namespace warmpath::app
