#include "ingest/load_feed.h"

#include <utility>

namespace warmpath::ingest {
namespace {

constexpr int kWaitingMax = 100;  // gauges: old ones are worth nothing

}  // namespace

LoadFeed::LoadFeed(io::Loop& loop, LoadSource source, std::function<void(const events::LoadStat&)> told)
    : loop_(loop), source_(std::move(source)), told_(std::move(told)) {}

Result<void> LoadFeed::open() {
  io::ZmqOptions options;
  options.kind = io::ZmqKind::kSub;
  options.endpoint = source_.endpoint;
  options.receive_high_water = kWaitingMax;
  options.topics = {source_.topic};
  auto socket = io::ZmqSocket::open(loop_, options,
                                    {.message = [this](std::vector<std::string>&& frames) { on_message(frames); },
                                     .connected = {},
                                     .disconnected = {}});
  if (!socket.ok()) return socket.error();
  socket_ = std::move(socket).value();
  return {};
}

void LoadFeed::on_message(const std::vector<std::string>& frames) {
  const auto message = events::parse_live(frames);
  const auto stat = message.ok() ? events::decode_load(message->payload) : Result<events::LoadStat>(message.error());
  if (!stat.ok()) {
    ++malformed_;
    return;
  }
  heard_at_ = loop_.now();
  const auto told = told_;  // it may end this feed
  told(*stat);
}

}  // namespace warmpath::ingest
