// GatewayConfig: everything `warmpath serve` can be told, read and checked, with defaults. Plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/base.h"

namespace warmpath::config {

// Where an engine's KV events come from, when the user says so; else the engine is asked (/kv_event_sources,
// /server_info).
struct KvSource {
  enum class Side : std::uint8_t { kConnect, kBind };  // kBind: the engine dials out to us
  Side side = Side::kConnect;
  std::string events;  // ZMQ address of rank 0, "tcp://host:port"; rank r: port + r
  std::string replay;  // ZMQ address of the replay socket of rank 0; empty: none
};

struct EngineConfig {
  std::string url;  // "http://host:port" or "https://…", no path
  std::optional<KvSource> kv;
  std::uint32_t dp = 0;               // data-parallel ranks behind the URL; 0: ask the engine, else 1
  std::string ca;                     // PEM file for https; empty: the system's
  std::vector<std::string> adapters;  // LoRA names it serves beside the pool's model, when it cannot be asked
};

// When an engine is asked for a prompt's ids (/render, /tokenize) instead of taking ours.
enum class AskEngine : std::uint8_t { kNever, kWhenInexact, kAlways };

struct PoolConfig {
  std::string model;                 // name in requests; empty: what the engines say
  std::vector<std::string> aliases;  // further names for it
  std::string tokenizer;             // model folder; empty: the pool runs on guesses
  std::string policy = "precise";
  std::uint32_t block_tokens = 0;  // router block; 0: greatest common divisor of the engines', at least 16
  std::string secret_file;         // keys the block keys; empty: drawn at start
  std::uint64_t seed = 0;          // of the pool's random streams
  AskEngine ask_engine = AskEngine::kNever;
  Duration ask_timeout = std::chrono::seconds(1);
  std::uint64_t ask_cache_bytes_max = 64u << 20;  // of ids that were told
  std::uint64_t guess_tokens = 0;                 // capacity of an engine's guesses; 0: its KV cache's
  std::vector<EngineConfig> engines;
};

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };
enum class LogFormat : std::uint8_t { kText, kJson };

struct LimitsConfig {
  std::uint64_t head_bytes_max = 32u << 10;
  std::uint64_t headers_max = 100;
  std::uint64_t body_bytes_max = 16u << 20;
  std::uint64_t prompt_cache_bytes_max = 256u << 20;  // text, ids and keys kept for reuse, a pool; 0: none
  std::uint64_t connections_max = 10'000;             // clients, all listeners
  std::uint64_t requests_max = 10'000;                // in flight, a pool
  std::uint64_t engine_connections_max = 4'096;       // an engine
};

struct TimeoutsConfig {
  Duration connect = std::chrono::seconds(5);       // to an engine, TLS included
  Duration first_byte = std::chrono::seconds(300);  // from the engine's first byte of the request to its answer
  Duration idle = std::chrono::seconds(120);        // between two bytes of an engine's answer
  Duration client_head = std::chrono::seconds(10);
  Duration client_body = std::chrono::seconds(60);
  Duration client_keep_alive = std::chrono::seconds(75);
  Duration client_stall = std::chrono::seconds(60);  // a client that reads nothing
};

// How the map of the engines' caches survives a restart.
struct IndexConfig {
  std::string snapshot_path;  // empty: it does not
  Duration snapshot_every = std::chrono::seconds(60);
  bool share = false;     // answer gateways that copy: key seeds go out by the admin listener
  std::string copy_from;  // a peer's admin listener, "http://host:port"; empty: none
  Duration copy_timeout = std::chrono::seconds(30);
};

struct GatewayConfig {
  std::string listen = "127.0.0.1:8080";
  std::string admin_listen = "127.0.0.1:8081";
  std::uint32_t io_threads = 0;  // 0: one a core
  Duration drain = std::chrono::seconds(30);
  std::uint32_t attempts_max = 3;  // engines tried for one request, the first included
  bool include_usage = false;      // ask engines for usage on streams that did not, and strip it again
  Duration scrape_interval = std::chrono::milliseconds(500);
  Duration health_interval = std::chrono::seconds(2);
  Duration resolve_interval = std::chrono::seconds(10);  // DNS names of engines
  std::uint32_t decisions_kept = 1'000;                  // receipts for /decisions, a pool
  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;
  IndexConfig index;
  LimitsConfig limits;
  TimeoutsConfig timeouts;
  std::vector<PoolConfig> pools;  // at least one, each with an engine, once checked
};

}  // namespace warmpath::config
