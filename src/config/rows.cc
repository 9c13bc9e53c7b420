#include "config/rows.h"

#include <array>

namespace warmpath::config {
namespace {

constexpr std::array<std::string_view, 4> kLevels = {"debug", "info", "warning", "error"};
constexpr std::array<std::string_view, 2> kFormats = {"text", "json"};
constexpr std::uint64_t kDayMs = 86'400'000;
constexpr std::uint64_t kAny = std::uint64_t{1} << 53;

using G = GatewayConfig;
using P = PoolConfig;
using E = EngineConfig;

constexpr std::array kGatewayRows = {
    Row<G>{"listen", "listen", Kind::kAddress, "HOST:PORT", 0, 0,
           "where clients connect; port 0 takes a free one", [](G& c) -> Field { return &c.listen; }, {}},
    Row<G>{"admin_listen", "admin-listen", Kind::kAddress, "HOST:PORT", 0, 0,
           "where /metrics, /ready and decisions are", [](G& c) -> Field { return &c.admin_listen; }, {}},
    Row<G>{"io_threads", "io-threads", Kind::kNumber, "N", 0, 256,
           "threads that serve connections; 0: one a core", [](G& c) -> Field { return &c.io_threads; }, {}},
    Row<G>{"drain", "drain", Kind::kTime, "TIME", 0, kDayMs,
           "how long running requests may finish after the first Ctrl-C or SIGTERM",
           [](G& c) -> Field { return &c.drain; }, {}},
    Row<G>{"attempts_max", "attempts-max", Kind::kNumber, "N", 1, 16,
           "engines tried for one request, as long as nothing has reached the client",
           [](G& c) -> Field { return &c.attempts_max; }, {}},
    Row<G>{"include_usage", "include-usage", Kind::kSwitch, "", 0, 0,
           "ask engines for usage on streams that did not, and strip the extra chunk: proves predictions on all traffic",
           [](G& c) -> Field { return &c.include_usage; }, {}},
    Row<G>{"scrape_interval", "scrape-interval", Kind::kTime, "TIME", 10, kDayMs,
           "how often each engine's metrics are read", [](G& c) -> Field { return &c.scrape_interval; }, {}},
    Row<G>{"health_interval", "health-interval", Kind::kTime, "TIME", 10, kDayMs,
           "how often each engine's health is asked", [](G& c) -> Field { return &c.health_interval; }, {}},
    Row<G>{"resolve_interval", "resolve-interval", Kind::kTime, "TIME", 100, kDayMs,
           "how often the names of engines are looked up; every address is an engine",
           [](G& c) -> Field { return &c.resolve_interval; }, {}},
    Row<G>{"decisions_kept", "decisions-kept", Kind::kNumber, "N", 0, 1'000'000,
           "decisions that a pool keeps for the admin listener", [](G& c) -> Field { return &c.decisions_kept; }, {}},
    Row<G>{"log.level", "log-level", Kind::kChoice, "debug|info|warning|error", 0, 0, "least severe log line written",
           [](G& c) -> Field { return &c.log_level; }, kLevels},
    Row<G>{"log.format", "log-format", Kind::kChoice, "text|json", 0, 0, "form of a log line",
           [](G& c) -> Field { return &c.log_format; }, kFormats},
    Row<G>{"limits.head_bytes_max", "", Kind::kSize, "SIZE", 1'024, 1u << 20, "head of a request; more is answered 431",
           [](G& c) -> Field { return &c.limits.head_bytes_max; }, {}},
    Row<G>{"limits.headers_max", "", Kind::kNumber, "N", 8, 10'000, "header lines of a request; more is answered 431",
           [](G& c) -> Field { return &c.limits.headers_max; }, {}},
    Row<G>{"limits.body_bytes_max", "body-bytes-max", Kind::kSize, "SIZE", 1'024, 1u << 30,
           "body of a request; more is answered 413", [](G& c) -> Field { return &c.limits.body_bytes_max; }, {}},
    Row<G>{"limits.connections_max", "connections-max", Kind::kNumber, "N", 1, 1'000'000, "client connections at once",
           [](G& c) -> Field { return &c.limits.connections_max; }, {}},
    Row<G>{"limits.requests_max", "", Kind::kNumber, "N", 1, 1'000'000,
           "requests a pool has in flight; more are answered 503",
           [](G& c) -> Field { return &c.limits.requests_max; }, {}},
    Row<G>{"limits.engine_connections_max", "", Kind::kNumber, "N", 1, 1'000'000, "connections to one engine",
           [](G& c) -> Field { return &c.limits.engine_connections_max; }, {}},
    Row<G>{"timeouts.connect", "", Kind::kTime, "TIME", 1, kDayMs, "connecting to an engine, TLS included",
           [](G& c) -> Field { return &c.timeouts.connect; }, {}},
    Row<G>{"timeouts.first_byte", "first-byte-timeout", Kind::kTime, "TIME", 1, kDayMs,
           "an engine's first byte of an answer", [](G& c) -> Field { return &c.timeouts.first_byte; }, {}},
    Row<G>{"timeouts.idle", "idle-timeout", Kind::kTime, "TIME", 1, kDayMs, "between two bytes of an engine's answer",
           [](G& c) -> Field { return &c.timeouts.idle; }, {}},
    Row<G>{"timeouts.client_head", "", Kind::kTime, "TIME", 1, kDayMs, "a client's whole head",
           [](G& c) -> Field { return &c.timeouts.client_head; }, {}},
    Row<G>{"timeouts.client_body", "", Kind::kTime, "TIME", 1, kDayMs, "a client's whole body",
           [](G& c) -> Field { return &c.timeouts.client_body; }, {}},
    Row<G>{"timeouts.client_keep_alive", "", Kind::kTime, "TIME", 1, kDayMs, "an idle client connection",
           [](G& c) -> Field { return &c.timeouts.client_keep_alive; }, {}},
    Row<G>{"timeouts.client_stall", "", Kind::kTime, "TIME", 1, kDayMs, "a client that reads nothing of its answer",
           [](G& c) -> Field { return &c.timeouts.client_stall; }, {}},
};

constexpr std::array kPoolRows = {
    Row<P>{"model", "model", Kind::kText, "NAME", 0, 0, "the model's name in requests; unset: what the engines say",
           [](P& c) -> Field { return &c.model; }, {}},
    Row<P>{"aliases", "alias", Kind::kList, "NAME", 0, 0, "a further name for the model",
           [](P& c) -> Field { return &c.aliases; }, {}},
    Row<P>{"tokenizer", "tokenizer", Kind::kText, "DIR", 0, 0,
           "the model's folder (tokenizer.json, tokenizer_config.json, chat template); unset: the pool runs on guesses",
           [](P& c) -> Field { return &c.tokenizer; }, {}},
    Row<P>{"policy", "policy", Kind::kPolicy, "NAME", 0, 0, "how engines are chosen",
           [](P& c) -> Field { return &c.policy; }, {}},
    Row<P>{"block_tokens", "block-tokens", Kind::kNumber, "N", 0, 4'096,
           "the router's block; 0: the greatest common divisor of the engines', at least 16",
           [](P& c) -> Field { return &c.block_tokens; }, {}},
    Row<P>{"secret_file", "secret-file", Kind::kText, "FILE", 0, 0,
           "file whose bytes key the block keys; unset: drawn at start", [](P& c) -> Field { return &c.secret_file; },
           {}},
    Row<P>{"seed", "seed", Kind::kNumber, "N", 0, kAny, "seed of the pool's random choices",
           [](P& c) -> Field { return &c.seed; }, {}},
    Row<P>{"guess_tokens", "guess-tokens", Kind::kNumber, "N", 0, kAny,
           "how many tokens an engine is guessed to cache; 0: its KV cache's size",
           [](P& c) -> Field { return &c.guess_tokens; }, {}},
};

constexpr std::array kEngineRows = {
    Row<E>{"url", "", Kind::kUrl, "URL", 0, 0, "the engine's HTTP server", [](E& c) -> Field { return &c.url; }, {}},
    Row<E>{"kv", "", Kind::kKvEvents, "ADDRESS", 0, 0,
           "its KV events, rank r at the port plus r; unset: the engine is asked", [](E& c) -> Field { return &c.kv; },
           {}},
    Row<E>{"replay", "", Kind::kKvReplay, "ADDRESS", 0, 0, "its replay socket, rank r at the port plus r; needs kv",
           [](E& c) -> Field { return &c.kv; }, {}},
    Row<E>{"dp", "", Kind::kNumber, "N", 0, 256, "data-parallel ranks behind the URL; 0: the engine is asked",
           [](E& c) -> Field { return &c.dp; }, {}},
    Row<E>{"ca", "", Kind::kText, "FILE", 0, 0, "certificates (PEM) to trust for https; unset: the system's",
           [](E& c) -> Field { return &c.ca; }, {}},
    Row<E>{"adapters", "", Kind::kList, "NAME", 0, 0, "LoRA adapters it serves, when it cannot be asked",
           [](E& c) -> Field { return &c.adapters; }, {}},
};

}  // namespace

std::span<const Row<GatewayConfig>> gateway_rows() { return kGatewayRows; }
std::span<const Row<PoolConfig>> pool_rows() { return kPoolRows; }
std::span<const Row<EngineConfig>> engine_rows() { return kEngineRows; }

}  // namespace warmpath::config
