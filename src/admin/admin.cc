#include "admin/admin.h"

#include <algorithm>
#include <set>
#include <utility>

#include "api/api.h"

namespace warmpath::admin {
namespace {

constexpr std::size_t kDecisionsDefault = 20;
constexpr std::size_t kDecisionsMax = 1'000;
constexpr std::size_t kConnectionsMax = 64;
constexpr std::string_view kPaths =
    "/metrics, /health, /ready, /engines, /decisions, /index, /index/dump, /index/who, /index/snapshot";

http::Headers typed(std::string_view content_type) {
  http::Headers headers;
  headers.add("content-type", std::string(content_type));
  headers.add("cache-control", "no-store");
  return headers;
}

std::string write_error(const Error& error, int& status, http::Headers& headers) {
  status = api::status_of(error.kind).status;
  headers.set("content-type", "application/json");
  return api::error_body(error);
}

// Asks for the next piece when the last one has left for the most part.
struct SnapshotAnswer : std::enable_shared_from_this<SnapshotAnswer> {
  std::shared_ptr<http::Exchange> exchange;
  std::shared_ptr<SnapshotStream> stream;
  std::function<void()> over;  // may drop this
  bool waiting = false;

  void go() {
    if (exchange->above_high()) {
      waiting = true;
      return;
    }
    stream->next([weak = weak_from_this()](const std::optional<std::string>& piece) {
      if (const auto self = weak.lock()) self->take(piece);
    });
  }
  void take(const std::optional<std::string>& piece) {
    if (exchange->gone()) return over();
    if (piece) {
      exchange->write(*piece);
      return go();
    }
    exchange->end();
    over();
  }
};

class AdminImpl final : public Admin {
 public:
  AdminImpl(io::Loop& loop, Sources sources) : loop_(loop), sources_(std::move(sources)) {
    WP_CHECK(sources_.registry != nullptr && sources_.pools);
  }

  Result<void> open(const io::Address& address) {
    http::ServerOptions options;
    options.limits.connections_max = kConnectionsMax;
    options.limits.body_bytes_max = kWhoBytesMax;
    options.errors = write_error;
    auto opened = http::HttpListener::open(loop_, address, std::move(options),
                                           [this](std::shared_ptr<http::Exchange> exchange) { serve(exchange); });
    if (!opened.ok()) return opened.error();
    listener_ = std::move(opened).value();
    return {};
  }

  io::Address address() const override { return listener_->address(); }

 private:
  void serve(const std::shared_ptr<http::Exchange>& shared) {
    http::Exchange& exchange = *shared;
    const std::string_view path = exchange.head().path();
    const bool about_index = path == "/index" || path == "/index/dump" || path == "/index/who";
    const bool known =
        path == "/metrics" || path == "/health" || path == "/ready" || path == "/engines" || path == "/decisions";
    if (path == "/index/snapshot" && sources_.index.stat) {
      copy_index(shared);
    } else if (about_index && sources_.index.stat) {
      ask_index(exchange, path);
    } else if (!known) {
      fail(exchange, {ErrorKind::kNotFound, "no such path; there are " + std::string(kPaths)});
    } else if (exchange.head().method != "GET") {
      fail(exchange, {ErrorKind::kMethod, "only GET is allowed here"});
    } else if (path == "/metrics") {
      if (sources_.refresh) sources_.refresh();
      exchange.respond(200, typed(observe::Registry::content_type()), sources_.registry->expose());
    } else if (path == "/health") {
      exchange.respond(200, typed("application/json"), R"({"status":"ok"})");
    } else if (path == "/ready") {
      const auto pools = sources_.pools(0);
      exchange.respond(is_ready(pools) ? 200 : 503, typed("application/json"), ready_body(pools));
    } else if (path == "/engines") {
      exchange.respond(200, typed("application/json"), engines_body(sources_.pools(0)));
    } else {
      decisions(exchange);
    }
  }

  void ask_index(http::Exchange& exchange, std::string_view path) {
    const std::string_view method = path == "/index/who" ? "POST" : "GET";
    if (exchange.head().method != method) {
      return fail(exchange, {ErrorKind::kMethod, "only " + std::string(method) + " is allowed here"}, method);
    }
    auto body = path == "/index"        ? Result<std::string>(index_body(sources_.index.stat()))
                : path == "/index/dump" ? dump(exchange)
                                        : who(exchange);
    if (!body.ok()) return fail(exchange, body.error());
    exchange.respond(200, typed("application/json"), *body);
  }

  void copy_index(const std::shared_ptr<http::Exchange>& exchange) {
    if (exchange->head().method != "GET") return fail(*exchange, {ErrorKind::kMethod, "only GET is allowed here"});
    if (!sources_.index.snapshot) {
      return fail(*exchange,
                  {ErrorKind::kForbidden, "this gateway does not share its index: start it with --share-index true"});
    }
    auto answer = std::make_shared<SnapshotAnswer>();
    answer->stream = sources_.index.snapshot();
    if (!answer->stream) {
      return fail(*exchange, {ErrorKind::kExhausted, "as many copies of the index as may be are under way; try again"});
    }
    answer->exchange = exchange;
    answers_.insert(answer);
    answer->over = [this, weak = std::weak_ptr<SnapshotAnswer>(answer)] {
      // With the next turn: the exchange may be calling.
      loop_.post([self = weak.lock()] {});
      answers_.erase(weak.lock());
    };
    exchange->on_drained([weak = std::weak_ptr<SnapshotAnswer>(answer)] {
      const auto self = weak.lock();
      if (self && std::exchange(self->waiting, false)) self->go();
    });
    exchange->on_gone([weak = std::weak_ptr<SnapshotAnswer>(answer)] {
      if (const auto self = weak.lock()) self->over();
    });
    exchange->start(200, typed("application/octet-stream"), std::nullopt);
    answer->go();
  }

  Result<std::string> dump(const http::Exchange& exchange) {
    const std::string_view query = exchange.head().query();
    const auto engine = http::query_value(query, "engine");
    if (!engine || engine->empty()) {
      return Error{ErrorKind::kInvalid, "`engine` is missing: a name as /index gives it"};
    }
    const auto limit = limit_of(exchange, kDumpLimitDefault, kDumpLimitMax);
    if (!limit.ok()) return limit.error();
    const auto held = sources_.index.dump(http::query_value(query, "pool").value_or(""), *engine);
    if (!held.ok()) return held.error();
    return dump_body(*held, http::query_value(query, "after").value_or(""), *limit);
  }

  Result<std::string> who(const http::Exchange& exchange) {
    const std::string_view query = exchange.head().query();
    const std::string as = http::query_value(query, "as").value_or("completions");
    if (as != "chat" && as != "completions") {
      return Error{ErrorKind::kInvalid, "`as` must be chat or completions: what the body is"};
    }
    const auto endpoint = as == "chat" ? api::Endpoint::kChatCompletions : api::Endpoint::kCompletions;
    const auto request = api::parse_request(endpoint, exchange.body());
    if (!request.ok()) return request.error();
    const auto holders = sources_.index.who(http::query_value(query, "pool").value_or(""), *request);
    if (!holders.ok()) return holders.error();
    return who_body(*holders);
  }

  static Result<std::size_t> limit_of(const http::Exchange& exchange, std::size_t otherwise, std::size_t most) {
    const auto asked = http::query_value(exchange.head().query(), "limit");
    if (!asked) return otherwise;
    const auto number = parse_u64(*asked);
    if (number && *number >= 1 && *number <= most) return static_cast<std::size_t>(*number);
    return Error{ErrorKind::kInvalid, "`limit` must be a number from 1 to " + std::to_string(most)};
  }

  void decisions(http::Exchange& exchange) {
    const auto limit = limit_of(exchange, kDecisionsDefault, kDecisionsMax);
    if (!limit.ok()) return fail(exchange, limit.error());
    auto pools = sources_.pools(*limit);
    if (const auto name = http::query_value(exchange.head().query(), "pool")) {
      std::string names;
      for (const PoolReport& pool : pools) names += (names.empty() ? "" : ", ") + pool.name;
      std::erase_if(pools, [&name](const PoolReport& pool) { return pool.name != *name; });
      if (pools.empty()) {
        fail(exchange, {ErrorKind::kNotFound, "no such pool; there are " + names});
        return;
      }
    }
    exchange.respond(200, typed("application/json"), decisions_body(pools, *limit, loop_.now()));
  }

  static void fail(http::Exchange& exchange, const Error& error, std::string_view allowed = "GET") {
    http::Headers headers = typed("application/json");
    if (error.kind == ErrorKind::kMethod) headers.add("allow", std::string(allowed));
    exchange.respond(api::status_of(error.kind).status, std::move(headers), api::error_body(error));
  }

  io::Loop& loop_;
  Sources sources_;
  std::unique_ptr<http::HttpListener> listener_;
  std::set<std::shared_ptr<SnapshotAnswer>> answers_;  // under way
};

}  // namespace

Result<std::unique_ptr<Admin>> Admin::open(io::Loop& loop, const io::Address& address, Sources sources) {
  auto admin = std::make_unique<AdminImpl>(loop, std::move(sources));
  if (auto opened = admin->open(address); !opened.ok()) return opened.error();
  return std::unique_ptr<Admin>(std::move(admin));
}

}  // namespace warmpath::admin
