// config: what a user may set, once. One table of rows fills structs, reads YAML and flags, and writes help and docs.
//
//   flags.h           Flags: the options of one command; --help, faults, completion
//   gateway_config.h  GatewayConfig: what `warmpath serve` needs, as plain structs
//   gateway_table.h   its option table: YAML and flags -> GatewayConfig; docs/config.md
//   faults.h          Fault, Faults: every mistake at once, each with file, line, key and what is allowed
#pragma once

#include "config/faults.h"          // IWYU pragma: export
#include "config/flags.h"           // IWYU pragma: export
#include "config/gateway_config.h"  // IWYU pragma: export
#include "config/gateway_table.h"   // IWYU pragma: export
